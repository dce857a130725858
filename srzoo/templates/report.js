"use strict";

const byId = (id) => document.getElementById(id);

// --- theme: the system's until the button is pressed

const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
const showTheme = () => byId("theme").setAttribute("aria-pressed", String(isDark()));
byId("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
});
dark.addEventListener("change", showTheme);
showTheme();

// --- sortable tables: what is undefined stays last in both directions

function compareKeys(one, other) {
  const [a, b] = [Number(one), Number(other)];
  return Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(other, "en", { numeric: true }) : a - b || 0;
}

function sortBy(table, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const key = (row) => row.cells[column].dataset.key;
  const rows = [...table.tBodies[0].rows].sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * compareKeys(a, b);
  });
  table.tBodies[0].append(...rows);
  [...table.tHead.rows[0].cells].forEach((head, index) => {
    if (index === column) head.setAttribute("aria-sort", direction);
    else head.removeAttribute("aria-sort");
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const button of table.querySelectorAll("thead button")) {
    const head = button.closest("th");
    button.addEventListener("click", () => {
      const opposite = { ascending: "descending", descending: "ascending" };
      sortBy(table, head.cellIndex, opposite[head.getAttribute("aria-sort")] ?? button.dataset.first);
    });
  }
}

// --- one of several panels, by a select

for (const select of document.querySelectorAll("select.switch")) {
  const show = () => {
    for (const option of select.options) byId(option.value).hidden = option.value !== select.value;
  };
  select.addEventListener("change", show);
  show(); // a browser may restore a choice
}

// --- the slider

function startSlider() {
  const images = JSON.parse(byId("gallery").textContent);
  const [image, left, right, zoom] = ["image", "left", "right", "zoom"].map(byId);
  const [stage, divide] = [byId("stage"), byId("divide")];

  // Two images need not have the same entries: what was chosen stays wherever it is offered.
  function fill(select, labels, wanted) {
    select.replaceChildren(...labels.map((label) => new Option(label, label)));
    select.value = labels.includes(wanted) ? wanted : labels[0];
  }

  function legend(element, label, scores) {
    const name = document.createElement("strong");
    const line = document.createElement("span");
    name.textContent = label;
    line.textContent = scores ?? "";
    element.replaceChildren(name, line);
  }

  function showPictures() {
    const chosen = images[image.value];
    byId("over").src = chosen.pictures[left.value];
    byId("under").src = chosen.pictures[right.value];
    const mark = byId("mark");
    mark.hidden = !byId("show-mark").checked;
    for (const [side, length] of [["left", "width"], ["top", "height"]]) {
      mark.style[side] = `${(100 * chosen.crop[side]) / chosen[length]}%`;
      mark.style[length] = `${(100 * chosen.crop[length]) / chosen[length]}%`;
    }
    byId("left-tag").textContent = left.value;
    byId("right-tag").textContent = right.value;
    byId("over").alt = `${chosen.image}, ${left.value}`;
    byId("under").alt = `${chosen.image}, ${right.value}`;
    legend(byId("left-legend"), left.value, chosen.scores[left.value]);
    legend(byId("right-legend"), right.value, chosen.scores[right.value]);
    const fit = zoom.value === "fit";
    stage.style.width = fit ? `min(100%, ${Math.max(2 * chosen.width, 640)}px, ${(84 * chosen.width) / chosen.height}vh)` : `${zoom.value * chosen.width}px`;
    stage.classList.toggle("pixels", !fit && zoom.value !== "1");
  }

  function showImage(wantedLeft, wantedRight) {
    const labels = Object.keys(images[image.value].pictures);
    fill(left, labels, wantedLeft);
    fill(right, labels, wantedRight);
    showPictures();
  }

  function showDivide() {
    stage.style.setProperty("--x", `${divide.value}%`);
    divide.setAttribute("aria-valuetext", `${Math.round(divide.value)}% ${left.value}, the rest ${right.value}`);
  }

  image.addEventListener("change", () => showImage(left.value, right.value));
  for (const control of [left, right, zoom, byId("show-mark")]) control.addEventListener("change", showPictures);
  byId("swap").addEventListener("click", () => showImage(right.value, left.value));
  divide.addEventListener("input", showDivide);
  for (const button of document.querySelectorAll("button.open")) {
    button.addEventListener("click", () => {
      image.value = button.dataset.image;
      showImage(left.value, right.value);
      byId("compare").scrollIntoView();
      image.focus({ preventScroll: true });
    });
  }
  showImage(...JSON.parse(byId("ends").textContent));
  showDivide();
}

if (byId("gallery")) startSlider();
