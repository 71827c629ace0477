// Reads [[TeX, display], ...] and the macros as JSON, writes [{html} or {error}, ...].
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { katex: path, macros, items } = JSON.parse(readFileSync(0, "utf8"));
const katex = createRequire(import.meta.url)(path);

let complaint; // KaTeX draws some faults instead of raising them: remember what it asked about

const options = {
  output: "htmlAndMathml",
  throwOnError: true,
  strict: (code, message) => {
    if (code === "htmlExtension") return "ignore"; // the colour macros; `trust` rules the rest
    complaint ??= `${message} [${code}]`;
    return "error";
  },
  trust: ({ command, class: name }) => {
    const allowed = command === "\\htmlClass" && /^pe-t[abc]$/.test(name);
    if (!allowed) complaint ??= `${command} is not allowed`;
    return allowed;
  },
};

const one = ([tex, displayMode]) => {
  complaint = undefined;
  try {
    // A copy, because \gdef in one formula would otherwise change the next.
    const html = katex.renderToString(tex, { ...options, displayMode, macros: { ...macros } });
    return complaint ? { error: complaint } : { html };
  } catch (error) {
    return { error: error.message.replace(/^KaTeX parse error: /, "") };
  }
};

process.stdout.write(JSON.stringify(items.map(one)));
