// Signs in to a running agent in a real browser and has things done: a backup, a hold, a restore with its plan and the name typed.
// Prints what is wrong, a line each, and ends with 1 if anything is.
//
// node act.cjs MODULES BROWSER http://127.0.0.1:PORT PICTURES SOURCE NAME PASSWORD
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const [modules, executablePath, base, pictures, source, name, password] = process.argv.slice(2);
const { chromium } = require(path.join(modules, "playwright-core"));
const axe = fs.readFileSync(path.join(modules, "axe-core", "axe.min.js"), "utf8");
const found = [];

const expect = (is, what) => {
  if (!is) found.push(what);
};

const readable = async (page, where) => {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, nodes } of violations) found.push(`${where}: axe: ${id}: ${nodes.map((node) => node.html).slice(0, 3).join(" | ")}`);
  await page.screenshot({ path: path.join(pictures, `${where}.png`), fullPage: true });
};

// A job's page, until the job is done.
const done = async (page, what) => {
  await page.waitForURL(/\/jobs\/\d+$/, { timeout: 20000 });
  for (let time = 0; time < 120; time += 1) {
    const state = await page.locator("main .mark").first().textContent();
    if (state.startsWith("done")) return;
    if (state.startsWith("failed")) break;
    await page.waitForTimeout(500);
    await page.reload();
  }
  found.push(`${what}: ${await page.locator("main").innerText()}`);
};

(async () => {
  fs.mkdirSync(pictures, { recursive: true });
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  page.on("pageerror", (error) => found.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    found.push(`a dialog opened: ${dialog.message()}`);
    dialog.dismiss();
  });

  await page.goto(`${base}/jobs`);
  expect(page.url() === `${base}/sign-in`, `who is nobody is at ${page.url()}`);
  await readable(page, "sign-in");
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill("guessed");
  await page.getByRole("button", { name: "Sign in" }).click();
  expect((await page.getByRole("alert").textContent()).includes("wrong"), "a wrong password is not said to be");
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(`${base}/`);
  expect((await page.locator("header").innerText()).includes(name), "it does not say who is signed in");

  await page.goto(`${base}/sources/${source}`);
  await readable(page, "acts");
  await page.getByRole("button", { name: "Back up now" }).click();
  await done(page, "backup");

  await page.goto(`${base}/sources/${source}`);
  const act = page.locator("details.act", { hasText: "Hold…" }).first();
  await act.locator("summary").click();
  await act.getByLabel("Why").fill("<b>case</b> 7");
  await act.getByRole("button", { name: "Hold" }).click();
  await done(page, "hold");

  await page.goto(`${base}/sources/${source}`);
  await page.getByRole("link", { name: "Restore…" }).click();
  await page.getByLabel("Folder: its name alone").fill("copy");
  await page.getByRole("button", { name: "Show the plan" }).click();
  await page.getByRole("heading", { name: "The plan" }).waitFor({ timeout: 30000 });
  await readable(page, "restore");
  const typed = () => page.getByLabel(`Type ${source} to have it done`);
  await typed().fill("another");
  await page.getByRole("button", { name: "Restore" }).click();
  await page.getByRole("heading", { name: "This was not done" }).waitFor();
  await page.goBack();
  await typed().fill(source);
  await page.getByRole("button", { name: "Restore" }).click();
  await done(page, "restore");

  // A form without what only our pages know has nothing done, wherever it comes from.
  for (const csrf of ["", "0".repeat(64)]) {
    const status = await page.evaluate(
      async ([source, csrf]) => {
        const body = new URLSearchParams({ act: "backup", source, csrf });
        return (await fetch("/acts", { method: "POST", body })).status;
      },
      [source, csrf],
    );
    expect(status === 403, `a forged form was answered with ${status}`);
  }

  await page.goto(`${base}/`);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL(`${base}/sign-in`);
  await page.goto(`${base}/sources/${source}`);
  expect(page.url() === `${base}/sign-in`, "who signed out sees on");
  await browser.close();
  for (const line of found) console.log(line);
  process.exitCode = found.length > 0 ? 1 : 0;
})().catch((error) => {
  for (const line of found) console.log(line);
  console.log(`the browser: ${error.stack}`);
  process.exitCode = 1;
});
