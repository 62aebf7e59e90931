"use strict";
// Without this script all classes are to be seen, one below the other.
for (const gallery of document.querySelectorAll("[data-gallery]")) {
  const panels = [...gallery.querySelectorAll("[data-panel]")];
  const select = gallery.querySelector("[data-class]");
  const status = gallery.querySelector("[data-status]");
  let shown = -1; // all

  const show = (index) => {
    shown = index;
    panels.forEach((panel, i) => (panel.hidden = index >= 0 && i !== index));
    gallery.toggleAttribute("data-all", index < 0);
    select.value = index < 0 ? "all" : String(index);
    const name = index < 0 ? "" : panels[index].querySelector("h3").textContent;
    status.textContent =
      index < 0 ? `${panels.length} classes; \u2190 and \u2192 show one at a time` : `${index + 1} of ${panels.length}: ${name}`;
  };

  // From all classes on to the first one, or back to the last one.
  const step = (by) => {
    const from = shown < 0 && by < 0 ? panels.length : shown;
    show((from + by + panels.length) % panels.length);
  };

  gallery.querySelectorAll("[data-step]").forEach((button) => {
    button.addEventListener("click", () => step(Number(button.dataset.step)));
  });
  select.addEventListener("change", () => {
    show(select.value === "all" ? -1 : Number(select.value));
  });
  gallery.querySelector("[data-zoom]").addEventListener("change", (event) => {
    gallery.style.setProperty("--zoom", event.target.value);
  });

  const keys = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
  };
  document.addEventListener("keydown", (event) => {
    const takesKeys = event.target.closest("select, input, textarea, [tabindex='0']");
    const isCommand = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
    if (event.key in keys && !takesKeys && !isCommand) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  // A link to a class shows it.
  const follow = () => {
    const linked = panels.findIndex((panel) => `#${panel.id}` === location.hash);
    if (linked >= 0) show(linked);
    return linked >= 0;
  };
  addEventListener("hashchange", follow);
  gallery.querySelector("[data-controls]").hidden = false;
  if (!follow()) show(gallery.hasAttribute("data-all") ? -1 : 0);
}
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((details) => (details.open = true));
});
