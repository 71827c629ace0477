// What the copy button yields runs: of shown code the text that is kept in the <pre> behind it, of
// an example with prompts the input without them.
const copied = (block) => {
  if (block.nextElementSibling?.matches(".pe-runnable")) return block.nextElementSibling.textContent;
  const lines = block.querySelector("pre").textContent.split("\n");
  const input = lines.filter((line) => /^(>>>|\.\.\.)( |$)/.test(line));
  return input.map((line) => line.slice(4)).join("\n");
};

document.addEventListener("click", (event) => {
  const button = event.target.closest(".highlight button");
  const text = button && copied(button.closest(".highlight"));
  if (text) button.setAttribute("data-clipboard-text", text);
}, true);

// Changing the language keeps the place on the page.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.md-select__link");
  if (link) link.hash = location.hash;
}, true);

// A box that scrolls can be reached with the keyboard (the theme sees to its code blocks).
const reachable = () => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, pe-math.display")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("load", reachable);
addEventListener("resize", reachable);

// The theme's copy buttons stand in navigation landmarks without names, one per code block.
new MutationObserver(() => {
  for (const nav of document.querySelectorAll(".md-code__nav:not([role])")) nav.role = "none";
}).observe(document.body, { childList: true, subtree: true });
