// Says at the top of the page which step served it.
//
// The name stands in the Server field of the answer that brought the page, and fetch is how a script reads
// that. The browser keeps the answer, so no second request is sent, unless its cache is switched off.

"use strict";

addEventListener("load", async () => {
  const answer = await fetch(location.href, { cache: "force-cache" });
  const server = answer.headers.get("Server") ?? "a server that does not say its name";
  const [, number, name] = server.match(/^step(\d\d)-(.+)$/) ?? [];
  const words = document.createElement("span");
  words.id = "served-by";
  words.textContent = `served by ${number ? `step ${number}: ${name.replaceAll("-", " ")}` : server}`;
  document.querySelector("nav").append(words);
});
