// Draws beside the pictures how they came: a bar for each, and how many connections it took.
//
// The browser keeps the times of everything it loads for a page: Resource Timing,
// https://www.w3.org/TR/resource-timing/. Its times are milliseconds since the page was asked for.

"use strict";

// The axis has one of a few lengths, so that the drawings of several servers can be compared.
const AXIS_LENGTHS = [500, 1000, 2000, 5000, 10000, 20000, 50000];

// What the standard counts for the head of every answer, in bytes, however long it is.
const HEAD_SIZE = 300;

// The pieces of a bar, in their order.
const PIECES = {
  waiting: "waiting for its turn",
  opening: "opening a connection",
  answering: "waiting for the answer",
  receiving: "receiving",
  cached: "from the browser's cache",
  unanswered: "no answer",
};

addEventListener("load", show);

function show() {
  const images = [...document.querySelectorAll(".gallery img")];
  const requests = [
    ...performance.getEntriesByType("navigation"),
    ...performance.getEntriesByType("resource"),
  ];
  const addresses = new Set(images.map((image) => image.currentSrc));
  const pictures = requests
    .filter((request) => addresses.has(request.name))
    .sort((a, b) => a.startTime - b.startTime);
  if (pictures.length === 0) {
    return;
  }
  const connections = findConnections(requests);
  const start = pictures[0].startTime;
  const duration = Math.max(...pictures.map((picture) => picture.responseEnd)) - start;

  describe(images, pictures, connections, duration);
  draw(pictures, start, duration);
  fillTable(pictures, start);
  document.getElementById("connections").hidden = false;
}

function isCached(request) {
  return request.transferSize === 0 && request.decodedBodySize > 0;
}

function isAnswered(request) {
  return request.responseStart > 0 && !isCached(request);
}

// Its bytes came earlier; now came only the head of an answer that says "not modified".
function isConfirmed(request) {
  return isAnswered(request) && request.transferSize === HEAD_SIZE;
}

// A request that is sent over an open connection has no time of connecting: the browser then repeats
// fetchStart. Comparing connectStart and connectEnd is not enough: on one machine the two may be equal.
function openedConnection(request) {
  return isAnswered(request) && request.connectEnd > request.fetchStart;
}

// Says over which connection each answer came. The browser does not tell, but over a connection of
// HTTP/1.1 comes one answer at a time. So a request that opened none took one that was free. When none
// was, it took one that the browser had opened ahead, before it knew what to ask for. This makes the
// fewest connections that explain the times.
function findConnections(requests) {
  const known = [];
  const taken = new Map();
  const answered = requests.filter(isAnswered).sort((a, b) => a.requestStart - b.requestStart);
  for (const request of answered) {
    const isNew = openedConnection(request);
    let connection = known.find(({ freeFrom }) => !isNew && freeFrom <= request.requestStart);
    if (!connection) {
      connection = {};
      known.push(connection);
    }
    // The browser notes the end of an answer late when the answer is no picture, or the picture is in its cache.
    const isTimed = request.responseStatus < 400 && !isConfirmed(request);
    connection.freeFrom = isTimed ? request.responseEnd : request.responseStart;
    taken.set(request, connection);
  }
  return taken;
}

function describe(images, pictures, connections, duration) {
  const arrived = images.filter((image) => image.naturalWidth > 0).length;
  const asked = pictures.filter(isAnswered);
  const used = new Set(asked.map((picture) => connections.get(picture))).size;
  const opened = asked.filter(openedConnection).length;
  const cached = pictures.filter(isCached).length;
  const confirmed = asked.filter(isConfirmed).length;

  const isRounded = pictures.every((picture) => Number.isInteger(picture.responseEnd));
  const isSure = opened === asked.length || !isRounded;
  const connectionsUsed = `${isSure ? "" : "at least "}${count(used, "connection")}`;

  const sentence = `${count(arrived, "picture")} over ${connectionsUsed} in ${Math.round(duration)} ms.`;
  const remarks = [];
  if (!isSure) {
    remarks.push(
      "This browser rounds its times to milliseconds. A connection that was opened faster is not " +
        "seen, so there may have been more. The log of the server tells.",
    );
  } else if (asked.length > 1 && opened === asked.length) {
    remarks.push("Each had a connection of its own.");
  } else if (used > 0) {
    remarks.push(
      `Opened for a picture: ${opened}. Open before, for the page itself or because a browser opens ` +
        `some ahead: ${used - opened}.`,
    );
  }
  if (cached > 0) {
    remarks.push(
      `${count(cached, "picture")} came from the browser's cache, without a request. Ctrl+Shift+R (on a ` +
        `Mac Cmd+Shift+R) loads all of them from the server.`,
    );
  }
  if (confirmed > 0) {
    remarks.push(`Of ${count(confirmed, "picture")} the server said that the browser's copy is still good.`);
  }
  if (arrived < images.length) {
    remarks.push(`${count(images.length - arrived, "picture")} did not arrive.`);
  }
  document.getElementById("sentence").textContent = sentence;
  document.getElementById("remarks").textContent = remarks.join(" ");
  document
    .getElementById("bars")
    .setAttribute("aria-label", `${sentence} A bar for each picture; the table below has the numbers.`);
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

// The pieces of a request's bar: what it is, from when, until when.
function pieces(request) {
  const { startTime, connectStart, requestStart, responseStart, responseEnd } = request;
  if (!isAnswered(request)) {
    return [[isCached(request) ? "cached" : "unanswered", startTime, responseEnd]];
  }
  const beforeRequest = openedConnection(request)
    ? [["waiting", startTime, connectStart], ["opening", connectStart, requestStart]]
    : [["waiting", startTime, requestStart]];
  return [
    ...beforeRequest,
    ["answering", requestStart, responseStart],
    ["receiving", responseStart, responseEnd],
  ];
}

function draw(pictures, start, duration) {
  const length = AXIS_LENGTHS.find((length) => duration <= length) ?? Math.ceil(duration);
  const percent = (time) => `${(100 * time) / length}%`;

  const drawn = new Set();
  for (const picture of pictures) {
    const bar = document.createElement("div");
    for (const [kind, from, until] of pieces(picture)) {
      const piece = document.createElement("i");
      piece.className = kind;
      piece.style.left = percent(from - start);
      piece.style.width = percent(until - from);
      bar.append(piece);
      drawn.add(kind);
    }
    document.getElementById("bars").append(bar);
  }

  for (let fifth = 0; fifth <= 5; fifth += 1) {
    const time = Math.round((length * fifth) / 5);
    const label = document.createElement("span");
    label.textContent = fifth === 0 ? "0 ms" : time;
    label.style.left = percent(time);
    document.getElementById("axis").append(label);
  }

  for (const kind of Object.keys(PIECES).filter((kind) => drawn.has(kind))) {
    const sample = document.createElement("i");
    sample.className = kind;
    const item = document.createElement("li");
    item.append(sample, PIECES[kind]);
    document.getElementById("legend").append(item);
  }
}

function fillTable(pictures, start) {
  for (const picture of pictures) {
    const parts = pieces(picture);
    const cells = [picture.name.split("/").pop(), (picture.startTime - start).toFixed(1)];
    for (const kind of Object.keys(PIECES)) {
      const part = parts.find(([name]) => name === kind);
      cells.push(part ? (part[2] - part[1]).toFixed(1) : "–");
    }
    const row = document.getElementById("times").insertRow();
    for (const cell of cells) {
      row.insertCell().textContent = cell;
    }
  }
}
