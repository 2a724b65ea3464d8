// What the codes of the API mean, in plain words.

import { isPage, readingOf, shown } from "./reading.js";

const DECISIONS = { accept: "Accepted", review: "Please check", reject: "Not sure" };

const REJECTED = { not_a_digit: "No digit", no_ink: "Empty", several_digits: "Several digits" };

export const decisionWords = ({ decision, reason }) => (decision === "reject" && REJECTED[reason]) || DECISIONS[decision] || decision;

const REASONS = {
  not_a_digit: "This does not look like a digit.",
  no_ink: "Nothing seems to be written here.",
  several_digits: "It was sent to be read as one digit and shows several: upload it here to read them all.",
};

const WARNINGS = {
  no_ink: "no ink found",
  inverted: "dark ink on light paper (colours inverted)",
  low_contrast: "faint ink",
  touches_border: "the ink runs off the edge",
  several_digits: "more than one digit",
  too_thin: "very thin strokes",
  lines_removed: "ruled lines were removed",
  noisy: "speckles were removed",
  too_small: "a very small digit: crop it, move closer, or scan at a higher resolution",
  uneven_light: "shadows were evened out",
  several_frames: "only one frame or page of this file was read",
  signs_left_out: "signs, such as points or dashes, were left out",
};

export const warningWords = (name) => WARNINGS[name] ?? name.replaceAll("_", " ");

const PROBLEMS = {
  network: "The server does not answer.",
  offline: "This device is offline.",
  unreadable: "The file cannot be opened: it is a folder, or it was changed, moved or deleted.",
  no_image: "The file is empty.",
  undecodable_image: "The picture is damaged or cut off, so it cannot be read.",
  too_many_digits: "There are too many digits in this picture: send a part of it.",
  queue_full: "The queue is full.",
  rate_limited: "Too many pictures at once.",
  unauthorized: "The server requires an API key: reload the page to enter it.",
  no_worker: "No worker is running.",
  expired: "This picture has expired.",
  lost: "This picture was lost with the server’s data.",
  not_found: "This picture was deleted.",
  still_running: "A worker is reading it right now; try again in a moment.",
  poison: "This picture crashed the workers several times and is not tried again.",
  timeout: "Reading it took too long.",
};

export function problemWords({ code, title, detail, limit }) {
  if (isLoading(detail)) return LOADING;
  if (code === "too_large" && limit) return `The file exceeds the ${Math.floor(limit / 1048576)} MB limit.`;
  if (code === "too_many_pixels" && limit) return `${megapixels(detail)}the limit is ${Math.round(limit / 1e6)} megapixels.`;
  if (code === "redis_unavailable") return unavailable(detail === title ? "" : detail);
  const words = PROBLEMS[code] ?? detail ?? title ?? "Something went wrong.";
  return /[.!?…]$/.test(words) ? words : `${words}.`;  // more may follow it
}

/** What is said while a request waits for its next try. The space keeps number and unit on one line. */
export const againWords = (problem, seconds) => `${problem.message} Trying again in ${seconds}\u00a0s…`;

const unavailable = (reason) => `The service is temporarily unavailable${reason ? `: ${reason}` : ""}.`;

const LOADING = "The service is loading its data after a start.";
/** Whether Redis, as the server words it, has not loaded its data yet. */
const isLoading = (detail) => /still loading its data/.test(detail ?? "");

/** What the notice says of a Redis that does not serve, for this reason. */
export const unavailableWords = (reason) =>
  `${isLoading(reason) ? LOADING : unavailable(reason)} Your pictures are kept here and uploaded when it is ${isLoading(reason) ? "ready" : "back"}.`;

function megapixels(detail) {
  const [, width, height] = /(\d+) x (\d+) pixels/.exec(detail ?? "") ?? [];
  return width ? `The picture has ${((width * height) / 1e6).toFixed(0)} megapixels; ` : "The picture is too large; ";
}

/** What is said of a prediction that has no digits, or none yet. */
export function stateWords({ state, queue_position: ahead, error }) {
  if (state === "queued") return ahead ? `In the queue, ${plural(ahead, "picture")} ahead` : "In the queue, next in line";
  if (state === "running") return "A worker is reading it…";
  if (state === "failed") return problemWords({ ...error, detail: error?.message });
  return state === "cancelled" ? "Cancelled." : "Expired before a worker could read it.";
}

/** The confidence from which the model in service accepts a digit, once it is known. */
let needed = 0;
export const setNeeded = (accept) => (needed = accept);

/** The model that the workers serve, or each with their number; empty where none is known. */
export function modelWords(workers) {
  const models = Object.entries(workers?.models ?? {});
  const names = models.map(([version, alive]) => (models.length > 1 ? `${version} (${plural(alive, "worker")})` : version));
  return names.length ? `Model ${names.join(", ")}${workers.refusing ? "; a newer one is refused" : ""}` : "";
}

export function reasonWords(prediction) {
  if (prediction.decision === "accept") return "";
  if (prediction.digit == null && prediction.reason !== "no_ink") return "No digits were found here.";
  return REASONS[prediction.reason] ?? doubt(prediction);
}

/** Why a digit is not accepted, though the model is nearly sure or quite sure of it. */
function doubt({ digit, confidence, warnings, decision }) {
  if (decision === "reject") return "That is too unsure to be an answer.";
  if (needed && confidence < needed) return `${needed - confidence < 0.01 ? "Just below" : "Below"} the ${apart(needed, confidence)} needed.`;
  if (warnings.some((name) => ["low_contrast", "uneven_light"].includes(name))) return "The ink is faint: a part of it may be lost.";
  if (warnings.includes("touches_border")) return "A part of the digit may be cut off.";
  return digit === 1 ? "It may be a line instead of a 1." : "It is unusual: compare it with the picture.";
}

/** A share as it differs from another one. */
const apart = (share, other) => (percent(share) === percent(other) ? `${(share * 100).toFixed(2)} %` : percent(share));

/** The most likely digits in one sentence: "7, 99.9 %; next 9, 0.1 %". */
export function likelyWords(probabilities) {
  const [[first, share], [second, next]] = [...probabilities.entries()].sort(([, one], [, other]) => other - one);
  return `${first}, ${percent(share)}; next ${second}, ${percent(next)}`;
}

/** The digit to show, and how sure the model is; where it is rejected a digit is no more than a guess. */
export function verdict(prediction) {
  if (isPage(prediction)) return pageVerdict(readingOf(prediction));
  const { digit, confidence, decision, reason } = prediction;
  if (digit == null) return ["–", ""];
  if (decision !== "reject") return [String(digit), `${percent(confidence)} sure`];
  if (reason === "no_ink") return ["–", ""];
  // How sure the model is among ten digits says nothing where there is none, or more than one.
  return ["?", reason in REJECTED ? `closest: ${digit}` : `maybe ${digit}, ${percent(confidence)}`];
}

/** What to do about digits with this decision; nothing where they are accepted. */
export const doubtWords = (decision) => (decision === "accept" ? "" : DECISIONS[decision].toLowerCase());

function pageVerdict({ numbers }) {
  const sure = numbers.length === 1 ? `${percent(numbers[0].confidence)} sure` : plural(numbers.length, "number");
  return [numbers.map(({ text }) => text).join(" ") || "?", sure];
}

const STANDING = { accept: "accepted", review: "to be checked", reject: "not sure" };

/** A digit of several, as its box is announced: "7, 98 %, to be checked". */
export function digitWords({ digit, confidence, decision, label }) {
  if (label === "none") return `No digit, read as ${digit}`;
  if (label) return `${label}, corrected, read as ${digit}`;
  return `${decision === "reject" ? "Maybe " : ""}${digit}, ${percent(confidence)}, ${STANDING[decision]}`;
}

/** Describes the reading of a picture with several digits in one sentence; `named` names up to three numbers. */
export function pageWords({ digits, numbers, cells, open }, named = false) {
  const read = digits.filter((digit) => /\d/.test(shown(digit))).length;
  const names = named && numbers.length <= 3 ? `, ${numbers.map(({ text }) => text).join(" and ")},` : "";
  const parts = [cells && `a table of ${cells.length} × ${cells[0].length} cells`, numbers.length && `${plural(numbers.length, "number")}${names}`];
  if (!read) return `No digits could be read in ${plural(digits.length, "mark")}.`;
  return sentence([
    `${parts.filter(Boolean).join(" and ")} with ${plural(read, "digit")}`,
    open.review && `${open.review} to be checked`,
    open.reject && `${plural(open.reject, "mark")} not read`,
  ].filter(Boolean));
}

export const percent = (share) => `${(share * 100).toFixed(share > 0.9995 || share < 0.9 ? 0 : 1)} %`;

export const ms = (value) => (value == null ? "–" : value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`);

/** The time of day, and the date unless it is today. */
export function timeWords(text) {
  const at = new Date(text), today = at.toDateString() === new Date().toDateString();
  return at.toLocaleString([], today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}

export const plural = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

export const sentence = (list) => (list.length ? `${list[0][0].toUpperCase()}${list.join(", ").slice(1)}.` : "");
