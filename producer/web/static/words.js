// What the codes of the API mean, in plain words.

const DECISIONS = { accept: "Accepted", review: "Please check", reject: "Not sure" };

const REJECTED = { not_a_digit: "No digit", no_ink: "Empty", several_digits: "Several digits" };

export const decisionWords = ({ decision, reason }) => (decision === "reject" && REJECTED[reason]) || DECISIONS[decision] || decision;

const REASONS = {
  low_confidence: "The model is unsure about this one.",
  not_a_digit: "This does not look like a digit.",
  no_ink: "Nothing seems to be written here.",
  several_digits: "More than one digit was found; only single digits are read.",
};

export const WARNINGS = {
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
};

const PROBLEMS = {
  network: "The server does not answer.",
  offline: "This device is offline.",
  unreadable: "The file cannot be opened: it is a folder, or it was changed, moved or deleted.",
  no_image: "The file is empty.",
  undecodable_image: "The picture is damaged or cut off, so it cannot be read.",
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
  if (code === "too_large" && limit) return `The file is too large; up to ${Math.floor(limit / 1048576)} MB can be read.`;
  if (code === "too_many_pixels" && limit) return `The picture is too large; up to ${Math.round(limit / 1e6)} megapixels can be read.`;
  const words = PROBLEMS[code] ?? detail ?? title ?? "Something went wrong.";
  return /[.!?…]$/.test(words) ? words : `${words}.`;  // more may follow it
}

export function reasonWords(prediction) {
  if (prediction.decision === "accept") return "";
  return REASONS[prediction.reason] ?? "The model is unsure about this one.";
}

/** The digit to show, and how sure the model is; where it is rejected a digit is no more than a guess. */
export function verdict({ digit, confidence, decision, reason }) {
  if (decision !== "reject") return [String(digit), `${percent(confidence)} sure`];
  if (reason === "no_ink") return ["–", ""];
  // How sure the model is among ten digits says nothing where there is none, or more than one.
  return ["?", reason in REJECTED ? `closest: ${digit}` : `maybe ${digit}, ${percent(confidence)}`];
}

export const percent = (share) => `${(share * 100).toFixed(share > 0.9995 || share < 0.9 ? 0 : 1)} %`;

export const ms = (value) => (value == null ? "–" : value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`);

export const plural = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

export const sentence = (list) => (list.length ? `${list[0][0].toUpperCase()}${list.join(", ").slice(1)}.` : "");
