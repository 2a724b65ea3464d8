// What the server tells by itself: finished pictures, and how busy it is.

import { ROOT } from "./api.js";

const CLOSE_HIDDEN_AFTER = 20_000, AGAIN_AFTER = 4000;
/** A server that is started again is back before this, in ms; each further error leaves it as it is. */
const AWAY_AFTER = 2500;
/** The server says something every second; an open stream that is silent for so long, in ms, is opened again. */
const SILENT_AFTER = 6000;

/** `on` has `prediction(p)`, `status(s)`, `reset()` and `connected(bool)`. */
export function listen(on) {
  let source, hiding, again, away, silent;

  function open() {
    close();
    source = new EventSource(`${ROOT}/v1/events`);
    source.addEventListener("open", () => (heard(), on.connected(true)));
    source.addEventListener("prediction", (event) => (heard(), on.prediction(JSON.parse(event.data))));
    source.addEventListener("status", (event) => (heard(), on.status(JSON.parse(event.data))));
    source.addEventListener("reset", () => on.reset());
    source.addEventListener("error", (event) => {
      clearTimeout(silent);
      away ??= setTimeout(on.connected, AWAY_AFTER, false);
      // Refused outright (every seat is taken, a proxy's error): the browser would not come back by itself.
      if (event.target.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN_AFTER * (1 + Math.random()));
    });
  }

  function heard() {
    forget();
    silent = setTimeout(() => (on.connected(false), open()), SILENT_AFTER);
  }

  function forget() {
    clearTimeout(away);
    clearTimeout(silent);
    away = null;
  }

  function close() {
    forget();
    clearTimeout(again);
    source?.close();
    source = null;
  }

  // A browser has six connections to one server: a tab that nobody looks at gives its own back.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(close, CLOSE_HIDDEN_AFTER);
    else if (!source) (open(), on.reset());
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && (open(), on.reset()));
  open();
}
