// Step 09 in Node: one thread, persistent connections. node loop.mjs --port 8080 --root SITE
import { createServer } from "node:http";
import { createReadStream, realpathSync, statSync } from "node:fs";
import { pipeline } from "node:stream";
import { extname, join, sep } from "node:path";

const [, , , port, , folder] = process.argv;
const root = realpathSync(folder);
const types = { ".html": "text/html; charset=utf-8", ".css": "text/css", ".png": "image/png" };

function find(target) {
  try {
    const name = decodeURIComponent(target.split("?")[0]);
    const path = realpathSync(join(root, name.endsWith("/") ? name + "index.html" : name));
    return path.startsWith(root + sep) && statSync(path).isFile() ? path : null;
  } catch {
    return null;
  }
}

const server = createServer({ keepAliveTimeout: 60000 }, (request, response) => {
  const path = find(request.url);
  if (!path) {
    response.writeHead(404, { "Content-Type": "text/plain", "Content-Length": 10 });
    response.end("not found\n");
    return;
  }
  const type = types[extname(path)] ?? "application/octet-stream";
  response.writeHead(200, { "Content-Type": type, "Content-Length": statSync(path).size });
  if (request.method === "HEAD") response.end();
  // It closes the file too when the client has gone before its end.
  else pipeline(createReadStream(path), response, () => {});
});
server.listen(Number(port), "127.0.0.1");
