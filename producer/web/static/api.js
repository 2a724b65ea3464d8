// The HTTP API: errors as problems, and the patience to try again.

import { problemWords } from "./words.js";

const MAX_TRIES = 40, LONGEST_PAUSE = 15, AGAIN = new Set([429, 502, 503, 504]);

/** What the usual answers of a proxy in front of the server mean. */
const FOREIGN = {
  400: "The proxy in front of the server does not understand the request.",
  408: "The upload did not arrive in time.",
  413: "The file is too large for the proxy in front of the server.",
  414: "The file’s name is too long for the proxy in front of the server.",
  429: "The proxy in front of the server lets no more requests through.",
  431: "The request is too large for the proxy in front of the server: try it in a private window.",
  502: "The server does not answer.",
  503: "The server does not answer.",
  504: "The server takes too long.",
};

/** The sub-path under which a proxy serves the page, or an empty string: this module lies in its folder `static`. */
export const ROOT = new URL("..", import.meta.url).pathname.slice(0, -1);

/** Whatever went wrong, in words; `code` is the API's, or `network`, `offline`, `unreadable`. */
export class Problem extends Error {
  constructor(body, status = 0, retryAfter = 0) {
    super(problemWords(body));
    Object.assign(this, { code: body.code, status, retryAfter });
  }

  get worthRetrying() {
    return this.status === 0 ? this.code !== "unreadable" : AGAIN.has(this.status);
  }
}

/** One request, whose path is below ROOT. Throws a Problem, or an AbortError where `signal` says so. */
export async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(ROOT + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (options.body instanceof Blob && !(await isReadable(options.body))) throw new Problem({ code: "unreadable" });
    throw new Problem({ code: navigator.onLine ? "network" : "offline" });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({ title: FOREIGN[response.status] ?? `The server answered ${response.status}.` }));
  throw new Problem(body, response.status, Number(response.headers.get("Retry-After")) || 0);
}

/** Returns whether a file can be read; for a folder or a changed file `fetch` reports only that the network failed. */
const isReadable = (blob) => blob.slice(0, 1).arrayBuffer().then(() => true, () => false);

export const getJson = async (path, options) => (await call(path, options)).json();

/** As `call`, again and again with back-off and jitter; `onPause(seconds, problem)` is told each second until then. */
export async function insist(path, options, onPause) {
  for (let tries = 1; ; tries++) {
    try {
      return await call(path, options);
    } catch (problem) {
      if (!problem.worthRetrying || tries >= MAX_TRIES) throw problem;
      const backOff = Math.min(LONGEST_PAUSE, 0.5 * 2 ** tries) * (0.5 + Math.random() / 2);
      const asked = problem.retryAfter * (1 + Math.random() / 3);
      await pause(Math.max(backOff, asked), options.signal, (left) => onPause?.(left, problem));
    }
  }
}

async function pause(seconds, signal, tell) {
  const end = performance.now() + seconds * 1000;
  let online = false;
  const back = () => (online = true);
  addEventListener("online", back);
  try {
    for (let left; !online && (left = (end - performance.now()) / 1000) > 0; ) {
      signal?.throwIfAborted();
      tell(Math.ceil(left));
      await new Promise((done) => setTimeout(done, Math.min(250, left * 1000)));
    }
  } finally {
    removeEventListener("online", back);
  }
  signal?.throwIfAborted();
}

/** A key under which one picture is sent, however often. (randomUUID is only there on secure origins.) */
export const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

/** What submits a picture, whether it shows one digit or several: path and options for `call` and `insist`. */
export function submission(blob, name, key, { wait = 0, priority = "normal", signal } = {}) {
  const headers = { "Content-Type": blob.type || "application/octet-stream", "Idempotency-Key": `"${key}"` };
  if (wait) headers.Prefer = `wait=${wait}`;
  const query = new URLSearchParams({ filename: name, priority, read: "numbers" });
  return [`/v1/predictions?${query}`, { method: "POST", body: blob, headers, signal }];
}

/** What submits a zip or an IDX file as a batch, as `submission`. */
export function batchSubmission(file, key, signal) {
  const headers = { "Content-Type": "application/octet-stream", "Idempotency-Key": `"${key}"` };
  const query = new URLSearchParams({ filename: file.name, read: "numbers" });
  return [`/v1/batches?${query}`, { method: "POST", body: file, headers, signal }];
}

/** Deletes a prediction or a batch; one that is gone already is deleted. */
export async function remove(path, keepalive = false) {
  try {
    await call(path, { method: "DELETE", keepalive });
  } catch (problem) {
    if (![404, 410].includes(problem.status)) throw problem;
  }
}

/** Runs at most `width` tasks at once: thousands of files are not opened together. */
export class UploadQueue {
  #waiting = [];
  #free;

  constructor(width) {
    this.#free = width;
  }

  async run(task) {
    if (this.#free > 0) this.#free--;
    else await new Promise((turn) => this.#waiting.push(turn));
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
