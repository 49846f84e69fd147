/** `npm run demo`: exit status 0 when every claim was proved, 1 when one failed, 130 when interrupted. */
import { runDemo } from "./demo.ts";
import { Screen } from "./screen.ts";

const SECONDS = Number(process.env["SEAWALL_DEMO_SECONDS"] ?? "10");

const interrupted = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(name, () => interrupted.abort(new Error(`received ${name}`)));
}
const screen = new Screen({ out: process.stdout });
const startMs = performance.now();
try {
  const signal = interrupted.signal;
  const holds = await runDemo({ screen, seconds: SECONDS, signal, sabotage: process.env["SEAWALL_DEMO_SABOTAGE"] });
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
  screen.say(holds ? `Every claim holds (${seconds} s).` : "A claim FAILED.");
  process.exitCode = holds ? 0 : 1;
} catch (error) {
  screen.say(interrupted.signal.aborted ? "Interrupted; cleaned up." : `The demo failed: ${describe(error)}`);
  process.exitCode = interrupted.signal.aborted ? 130 : 1;
}

function describe(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? `: ${describe(error.cause)}` : "";
  return `${error instanceof Error ? error.message : String(error)}${cause}`;
}
