(() => {
  "use strict";
  const gallery = document.getElementById("gallery");
  const cards = [...gallery.querySelectorAll(".card")];
  const control = (name) => document.getElementById(name);
  const value = (name) => (control(name) ? control(name).value : "");
  const dialog = document.querySelector("dialog");
  let opened = null;
  // More are shown when asked for: a page of hundreds of pictures is no overview.
  let most = 10;

  const views = (card) => [...card.querySelectorAll(".view:not([hidden])")];
  const shown = () => [...gallery.querySelectorAll(".card:not([hidden])")];
  const panels = () =>
    [...gallery.querySelectorAll(".card:not([hidden]) .view:not([hidden]) .panel button")];

  function update() {
    const group = value("group"), tag = value("tag"), category = value("category");
    const answer = value("answer"), order = value("order");
    const words = value("search").toLowerCase().split(/\s+/).filter(Boolean);
    for (const card of cards) {
      for (const view of card.querySelectorAll(".view")) {
        view.hidden = (group && view.dataset.group !== group) ||
          (tag && !view.dataset.tags.split(" ").includes(tag));
      }
      const text = card.dataset.text.toLowerCase();
      card.hidden = !views(card).length || (category && card.dataset.category !== category) ||
        (answer && !views(card).some((view) => view.dataset.answer === answer)) ||
        !words.every((word) => text.includes(word));
    }
    const name = order ? `data-by-${order}` : "data-rank";
    // What cannot be told comes last.
    const ranked = (view) => Number(view.getAttribute(name) ?? -Infinity);
    const rank = (card) => Math.max(...views(card).map(ranked));
    const visible = shown();
    visible.sort((a, b) => rank(b) - rank(a) || 0).forEach((card) => gallery.append(card));
    cut();
    if (control("order")) {
      control("sorted").textContent = control("order").selectedOptions[0].textContent;
    }
    control("count").value = `${visible.length} of ${cards.length} images`;
    control("empty").hidden = visible.length > 0;
  }

  function cut() {
    const visible = shown();
    visible.forEach((card, at) => card.classList.toggle("later", at >= most));
    control("more").hidden = visible.length <= most;
    control("more").textContent = `Show all ${visible.length} images`;
  }

  function showAll() {
    most = Infinity;
    cut();
  }

  function step(direction) {
    const visible = shown();
    if (!visible.length) return;
    const at = visible.indexOf(document.activeElement.closest(".card"));
    const next = at < 0 ? 0 : Math.min(visible.length - 1, Math.max(0, at + direction));
    if (next >= most) showAll();
    visible[next].focus();
    visible[next].scrollIntoView({ block: "start" });
  }

  function enlarge(button) {
    opened = button;
    const picture = button.querySelector("img");
    dialog.querySelector("img").src = picture.src;
    dialog.querySelector("img").alt = picture.alt;
    dialog.querySelector("p").textContent = picture.alt;
    control("save").href = picture.src;
    control("save").download = picture.alt.replace(/[^\w.-]+/g, "_").slice(0, 100);
    if (!dialog.open) dialog.showModal();
  }

  function turn(direction) {
    const all = panels();
    const next = all[all.indexOf(opened) + direction];
    if (!next) return;
    if (next.closest(".later")) showAll();
    enlarge(next);
  }

  gallery.addEventListener("click", (event) => {
    const button = event.target.closest(".panel button");
    if (button) enlarge(button);
  });
  control("more").addEventListener("click", () => {
    const next = shown()[most];
    showAll();
    next.focus();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => {
    if (opened) opened.focus();
  });
  for (const name of ["group", "tag", "category", "answer", "order", "search"]) {
    if (control(name)) control(name).addEventListener("input", update);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const forward = event.key === "ArrowRight" || event.key === "j";
    const back = event.key === "ArrowLeft" || event.key === "k";
    if (dialog.open) {
      // A key that is held down opens the picture once and leaves it open.
      if (event.key === "Enter" && event.repeat) event.preventDefault();
      if (forward || back) {
        event.preventDefault();
        turn(forward ? 1 : -1);
      }
      return;
    }
    if (/^(INPUT|SELECT)$/.test(event.target.tagName)) return;
    if (forward || back) {
      event.preventDefault();
      step(forward ? 1 : -1);
    } else if (event.key === "/") {
      event.preventDefault();
      control("search").focus();
    } else if (event.key === "Enter" && event.target.classList.contains("card")) {
      // Or the same stroke would press the button of the dialog that it opens.
      event.preventDefault();
      const first = event.target.querySelector(".view:not([hidden]) .panel button");
      if (first) enlarge(first);
    }
  });
  update();
})();
