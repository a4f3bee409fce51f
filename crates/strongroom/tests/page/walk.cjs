// Looks at every page of a running agent in a real browser: light and dark, as wide as a phone and as a desk, by keyboard, and
// without a script. Prints what is wrong, a line each, and ends with 1 if anything is.
//
// node walk.cjs MODULES BROWSER http://127.0.0.1:PORT PICTURES SOURCE
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const [modules, executablePath, base, pictures, source] = process.argv.slice(2);
const { chromium } = require(path.join(modules, "playwright-core"));
const axe = fs.readFileSync(path.join(modules, "axe-core", "axe.min.js"), "utf8");

const PAGES = {
  overview: "/",
  source: `/sources/${source}`,
  jobs: "/jobs",
  drills: "/drills",
  storage: "/storage",
  plans: "/plans",
  alerts: "/alerts",
  search: "/?q=%3Cscript%3Ealert(1)%3C/script%3E",
  absent: "/sources/none-such",
};
const WIDTHS = [320, 375, 1280];
const found = [];

// Everything that a page of this context does wrong by itself.
const watch = (page, where) => {
  page.on("console", (said) => {
    const isPage = said.type() === "error" || said.type() === "warning";
    // That a page does not exist is what one of them is for.
    if (isPage && !(where().startsWith("absent") && said.text().includes("404"))) found.push(`${where()}: console: ${said.text()}`);
  });
  page.on("pageerror", (error) => found.push(`${where()}: error: ${error.message}`));
  page.on("dialog", (dialog) => {
    found.push(`${where()}: a dialog opened: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(`${base}/`)) found.push(`${where()}: asks elsewhere: ${request.url()}`);
  });
};

const look = async (browser, colorScheme, width) => {
  const context = await browser.newContext({ colorScheme, viewport: { width, height: 900 }, reducedMotion: "reduce" });
  const page = await context.newPage();
  let where = "";
  watch(page, () => where);
  for (const [name, address] of Object.entries(PAGES)) {
    where = `${name} ${colorScheme} ${width}`;
    await page.goto(base + address, { waitUntil: "load" });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (wide > 0) found.push(`${where}: ${wide} px wider than the screen`);
    if ((await page.locator("h1").count()) !== 1) found.push(`${where}: not one first heading`);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    for (const { id, nodes } of violations) found.push(`${where}: axe: ${id}: ${nodes.map((node) => node.html).slice(0, 3).join(" | ")}`);
    if (width !== 320) await page.screenshot({ path: path.join(pictures, `${name}-${colorScheme}-${width}.png`), fullPage: true });
  }
  await context.close();
};

// Everything can be reached and used with keys alone, and one sees where one is.
const walk = async (browser) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  watch(page, () => "keyboard");
  await page.goto(`${base}/`);
  const links = await page.locator("a:visible, button:visible, input:visible, select:visible").count();
  const reached = new Set();
  for (let step = 0; step < links + 20; step += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const one = document.activeElement;
      if (!one || one === document.body) return null;
      const style = getComputedStyle(one);
      return { name: one.outerHTML, outline: parseFloat(style.outlineWidth), style: style.outlineStyle };
    });
    if (at === null) break;
    if (at.style === "none" || !(at.outline >= 2)) found.push(`keyboard: no visible focus at ${at.name.slice(0, 120)}`);
    reached.add(at.name);
  }
  if (reached.size < links) found.push(`keyboard: reached ${reached.size} of ${links} places`);
  await page.goto(`${base}/`);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  const main = await page.evaluate(() => document.activeElement && document.activeElement.id);
  if (main !== "main") found.push(`keyboard: the first link leads to '${main}' and not to the content`);
  await page.goto(`${base}/`);
  await page.locator(`a[href="/sources/${source}"]`).focus();
  await page.keyboard.press("Enter");
  await page.waitForURL(`${base}/sources/${source}`);
  await context.close();
};

// The same is said without a script; with one, times count on and jobs are read again.
const compare = async (browser) => {
  const plain = await browser.newContext({ javaScriptEnabled: false });
  const still = await plain.newPage();
  await still.goto(`${base}/sources/${source}`);
  for (const words of ["How we know", "What can be restored", "What is held", "Drills", "What plans order"]) {
    if (!(await still.content()).includes(words)) found.push(`without a script: '${words}' is missing`);
  }
  await plain.close();
  const context = await browser.newContext();
  const page = await context.newPage();
  watch(page, () => "live");
  await page.goto(`${base}/jobs`);
  const counted = page.locator(".freshness time[data-ago], time[data-ago]").first();
  const before = await counted.textContent();
  await page.waitForFunction((before) => document.querySelector("time[data-ago]").textContent !== before, before, { timeout: 10000 });
  await page.evaluate(() => document.querySelector("[data-live]").setAttribute("data-old", ""));
  await page.waitForFunction(() => !document.querySelector("[data-old]"), null, { timeout: 15000 });
  await context.close();
};

(async () => {
  fs.mkdirSync(pictures, { recursive: true });
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  // What is being read for the first time is there the second time.
  const first = await browser.newPage();
  for (const address of [PAGES.source, PAGES.plans]) {
    await first.goto(base + address);
    for (let time = 0; (await first.content()).includes("is being read") && time < 20; time += 1) await first.reload();
  }
  await first.close();
  for (const colorScheme of ["light", "dark"]) for (const width of WIDTHS) await look(browser, colorScheme, width);
  await walk(browser);
  await compare(browser);
  await browser.close();
  for (const line of [...new Set(found)]) console.log(line);
  process.exitCode = found.length > 0 ? 1 : 0;
})().catch((error) => {
  console.log(`the browser: ${error.stack}`);
  process.exitCode = 1;
});
