/**
 * A real browser for tests of the status page: Debian's Chromium, headless, one for the whole run. It reaches loopback and
 * nothing else, and each test gets a profile of its own.
 *
 *     const browser = await openBrowser();
 *     test.skipIf(!browser.available)("…", async () => {
 *       await using visit = await browser.visit(url, { width: 360 });
 *       await visit.page.keyboard.press("ArrowRight");
 */
import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { source as axeSource } from "axe-core";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { installPackages } from "./apt.ts";
import { BROWSER_PACKAGES, type BrowserAccess } from "./browser-access.ts";
import { askRunServices } from "./run-services.ts";
import { ServerProcess } from "./server-process.ts";
import { makeTempDir, removeTree } from "./temp.ts";

const PROGRAMS = ["chromium", "chromium-browser", "google-chrome"];
const START_MS = 60_000;

/** Starts the browser, installed if need be. Never throws for want of it: that is an answer. */
export async function provideBrowser(): Promise<{ access: BrowserAccess; stop: () => Promise<void> }> {
  try {
    if (findProgram() === undefined) await installPackages(BROWSER_PACKAGES, "tests of the status page", "chromium");
    const program = findProgram();
    if (program === undefined) throw new Error("chromium not found");
    return await start(program);
  } catch (error) {
    const unavailable = error instanceof Error ? error.message : String(error);
    return { access: { unavailable }, stop: async () => undefined };
  }
}

function findProgram(): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  return folders.flatMap((folder) => PROGRAMS.map((name) => join(folder, name))).find((path) => existsSync(path));
}

async function start(program: string): Promise<{ access: BrowserAccess; stop: () => Promise<void> }> {
  const folder = makeTempDir("browser");
  const profile = join(folder, "profile");
  const args = [
    "--headless",
    `--user-data-dir=${profile}`,
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--hide-scrollbars",
    // Shared memory is small in containers.
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    // Chromium's sandbox refuses to run as root.
    ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
    "about:blank",
  ];
  const env = { ...process.env, HOME: folder, TMPDIR: folder };
  const server = new ServerProcess(program, args, { folder, env, name: "chromium" });
  const stop = async (): Promise<void> => {
    await server.kill();
    removeTree(folder);
  };
  try {
    const endpoint = await Promise.race([readEndpoint(join(profile, "DevToolsActivePort")), server.failure]);
    return { access: { endpoint }, stop };
  } catch (error) {
    const log = server.tail();
    await stop();
    throw new Error(`chromium did not start: ${String(error)}\n${log}`, { cause: error });
  }
}

/** Chromium writes the port that it has chosen, then the path of its debugger. */
async function readEndpoint(file: string): Promise<string> {
  for (const deadline = Date.now() + START_MS; ; await sleep(50)) {
    const [port, path] = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
    if (port !== undefined && path !== undefined && path !== "") return `ws://127.0.0.1:${port}${path}`;
    if (Date.now() > deadline) throw new Error("it names no port for its debugger");
  }
}

export interface VisitOptions {
  /** CSS pixels; 1280 by default. */
  readonly width?: number;
  readonly dark?: boolean;
  readonly withoutScript?: boolean;
  /** IANA name of the browser's time zone; UTC by default. */
  readonly timeZone?: string;
}

/** A page in a profile of its own. */
export interface Visit extends AsyncDisposable {
  readonly page: Page;
  /** Every URL that the page has asked for. */
  readonly requests: readonly string[];
  /** Errors of the page's script and of its Content-Security-Policy. */
  readonly errors: readonly string[];
  /** Everything that axe-core finds, one line each, with all its rules. */
  readonly audit: () => Promise<string[]>;
}

export interface TestBrowser {
  readonly available: boolean;
  readonly visit: (url: string, options?: VisitOptions) => Promise<Visit>;
  readonly close: () => Promise<void>;
}

/** The run's browser under vitest. */
export async function openBrowser(): Promise<TestBrowser> {
  const shared = (await askRunServices("browser")) as BrowserAccess | undefined;
  const own = shared === undefined ? await provideBrowser() : undefined;
  const access = shared ?? own?.access ?? { unavailable: "no browser" };
  let connection: Promise<Browser> | undefined;
  return {
    available: "endpoint" in access,
    visit: async (url, options = {}) => {
      if ("unavailable" in access) throw new Error(`no browser: ${access.unavailable}`);
      connection ??= chromium.connectOverCDP(access.endpoint);
      return visit(await connection, url, options);
    },
    close: async () => {
      await (await connection)?.close();
      await own?.stop();
    },
  };
}

async function visit(browser: Browser, url: string, options: VisitOptions): Promise<Visit> {
  const { width = 1280, dark = false, withoutScript = false, timeZone = "UTC" } = options;
  const settings: BrowserContextOptions = {
    viewport: { width, height: width < 600 ? 740 : 900 },
    colorScheme: dark ? "dark" : "light",
    javaScriptEnabled: !withoutScript,
    timezoneId: timeZone,
    locale: "en-GB",
    reducedMotion: "reduce",
  };
  const context = await browser.newContext(settings);
  const page = await context.newPage();
  const requests: string[] = [];
  const errors: string[] = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await page.goto(url, { waitUntil: "load" });
  return { page, requests, errors, audit: async () => audit(page), [Symbol.asyncDispose]: async () => context.close() };
}

interface AxeViolation {
  readonly id: string;
  readonly help: string;
  readonly nodes: readonly { readonly html: string; readonly failureSummary?: string }[];
}

async function audit(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  const violations = await page.evaluate<AxeViolation[]>(
    "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations)",
  );
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id} (${help}): ${html} ${failureSummary ?? ""}`),
  );
}
