// One polite voice for screen readers, and the notice at the bottom that everybody sees.

const voice = document.getElementById("say");
let pending = [], timer;

/** Read out; what comes within a moment is read as one. */
export function say(text) {
  pending.push(text);
  clearTimeout(timer);
  timer = setTimeout(() => {
    voice.textContent = pending.length > 3 ? `${pending.length} pictures have been read.` : pending.join(" ");
    pending = [];
  }, 300);
}

const banner = document.getElementById("banner");
let reasons = new Map();

/** A notice under a name, as long as it holds; an empty text takes it away. */
export function notice(name, text) {
  if (text) reasons.set(name, text);
  else reasons.delete(name);
  const shown = reasons.values().next().value ?? "";
  if (banner.textContent !== shown) banner.textContent = shown;
}

/** A notice that goes by itself after so many seconds, shown before those that stay. */
export function passing(name, text, seconds = 8) {
  reasons = new Map([[name, text], ...reasons]);
  notice(name, text);
  setTimeout(() => notice(name, ""), seconds * 1000);
}
