// What pages do better with JavaScript; each of them works without it.
"use strict";

document.documentElement.classList.add("scripted");

// A choice of what to show is taken at once, so its button is not needed.
for (const form of document.querySelectorAll("form[data-submit-on-change]")) {
  form.querySelector("button")?.classList.add("hidden-visually");
  form.addEventListener("change", () => form.requestSubmit());
}

// A form that changes something is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.isSent) {
    event.preventDefault();
    return;
  }
  form.dataset.isSent = "yes";
});
// The page may come back from the browser's memory.
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-is-sent]")) delete form.dataset.isSent;
});

// A text is copied where the browser lets a page do so.
for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = !navigator.clipboard;
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).value);
  button.textContent = "Copied";
});

// j and k go down and up in a list, Enter opens a row, / goes to the first filter.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "/") {
    const filter = document.querySelector(".filters input:not([type=hidden]), .filters select");
    if (filter) {
      event.preventDefault();
      filter.focus();
    }
  }
  if (event.key !== "j" && event.key !== "k") return;
  const links = [...document.querySelectorAll("table.list tbody tr a.row")];
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  const next = event.key === "j" ? at + 1 : Math.max(at - 1, 0);
  links[Math.min(next, links.length - 1)].focus();
});

// What is wrong with a document is listed beside its JSON; each sentence stands at its field, too.
document.addEventListener("htmx:afterSettle", () => {
  const problems = [...document.querySelectorAll("#problems [data-of]")];
  for (const sentence of document.querySelectorAll("p.problem[data-of]")) {
    const own = problems.filter((problem) => problem.dataset.of === sentence.dataset.of);
    sentence.textContent = own.map((problem) => problem.dataset.message).join(" ");
    document.getElementById(sentence.dataset.of)?.setAttribute("aria-invalid", own.length > 0);
  }
});
// What was typed was taken over, so it can be tried.
document.addEventListener("htmx:afterRequest", (event) => {
  const typed = event.target.closest("#form-part, #document");
  if (typed && event.detail.successful && event.detail.requestConfig.verb === "post") htmx.trigger(document.body, "tried");
});
// A field offers the values that its key has.
document.addEventListener("htmx:configRequest", (event) => {
  const { offers, offersIn, offersOf } = event.target.dataset;
  if (!offers && !offersOf) return;
  const operator = document.getElementById(offers?.replace(/key$/, "operator"))?.value;
  event.detail.parameters.key = offersOf || (offersIn ? `${offersIn}:` : "") + document.getElementById(offers).value;
  event.detail.parameters.category = document.getElementById("text-category")?.value ?? "";
  event.detail.parameters.text = operator ? "" : event.target.value;
});
