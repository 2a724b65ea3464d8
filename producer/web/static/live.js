// Server-sent events: finished predictions, and the load of queue and workers.

import { ROOT } from "./api.js";

const CLOSE_HIDDEN_AFTER = 20_000, AGAIN_AFTER = 4000, UNANSWERED_AFTER = 10_000;
/** Milliseconds without a connection until the server counts as down; a restart is quicker. Further errors do not extend it. */
const AWAY_AFTER = 2500;
/** Milliseconds of silence after which an open stream is reopened; the server sends an event every second. */
const SILENT_AFTER = 2900;

/** `on` has `prediction(p)`, `status(s)`, `reset()` and `connected(bool)`. */
export function listen(on) {
  let source, hiding, again, away, silent;

  function open() {
    close();
    source = new EventSource(`${ROOT}/v1/events`);
    // A connection that is neither refused nor answered.
    again = setTimeout(open, UNANSWERED_AFTER);
    source.addEventListener("open", () => (heard(), on.connected(true)));
    source.addEventListener("prediction", (event) => (heard(), on.prediction(JSON.parse(event.data))));
    source.addEventListener("status", (event) => (heard(), on.status(JSON.parse(event.data))));
    source.addEventListener("reset", () => on.reset());
    source.addEventListener("error", (event) => {
      clearTimeout(silent);
      away ??= setTimeout(on.connected, AWAY_AFTER, false);
      // Refused (too many listeners, or a proxy's error): the browser does not reconnect automatically.
      clearTimeout(again);
      if (event.target.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN_AFTER * (1 + Math.random()));
    });
  }

  function heard() {
    forget();
    clearTimeout(again);
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

  // A browser has six connections to one server: a hidden tab closes its own.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(close, CLOSE_HIDDEN_AFTER);
    else if (!source) (open(), on.reset());
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && (open(), on.reset()));
  open();
}
