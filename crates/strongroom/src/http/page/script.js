// Counts times on and keeps what is live up to date. Without it every page says the same, as of when it was loaded.
"use strict";

(() => {
  // The agent's clock, whatever this one says.
  const ahead = Number(document.documentElement.dataset.now) - Date.now();
  const now = () => Date.now() + ahead;

  // As `in_words` of pieces.rs has it.
  const inWords = (seconds) => {
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    const [large, its, small, unit] =
      seconds < 86400
        ? [Math.floor(seconds / 3600), "h", Math.floor((seconds % 3600) / 60), "min"]
        : [Math.floor(seconds / 86400), "d", Math.floor((seconds % 86400) / 3600), "h"];
    return small === 0 ? `${large} ${its}` : `${large} ${its} ${small} ${unit}`;
  };

  const count = () => {
    for (const time of document.querySelectorAll("time[data-ago], time[data-until]")) {
      const apart = Math.trunc((now() - Date.parse(time.dateTime)) / 1000);
      const words = "ago" in time.dataset ? `${inWords(Math.max(0, apart))} ago` : apart < 0 ? `in ${inWords(-apart)}` : "now";
      if (time.textContent !== words) time.textContent = words;
    }
  };

  // What is live is read again, unless somebody is in the middle of it.
  const renew = async () => {
    const live = document.querySelector("[data-live]");
    if (!live || document.hidden || live.contains(document.activeElement)) return;
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("[data-live]");
    if (fresh && !live.contains(document.activeElement)) live.replaceWith(fresh);
    count();
  };

  setInterval(count, 1000);
  // An agent that is away for a moment is asked again.
  setInterval(() => renew().catch(() => {}), 5000);
})();
