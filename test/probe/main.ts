/**
 * `npm run version:probe -- --bin DIR [--version N]`: exits with 0 when nothing differs, with 1 when something does, and with
 * 2 when it is called wrongly.
 */
import { Checks } from "./checks.ts";
import { parseOptions } from "./options.ts";
import { probe, type ProbeOptions } from "./probe.ts";

function optionsOrExit(): ProbeOptions {
  try {
    return parseOptions(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    console.error("usage: npm run version:probe -- --bin DIR [--version N]");
    return process.exit(2);
  }
}

const options = optionsOrExit();
const checks = new Checks((line) => console.log(line));
await probe(options, checks);
console.log(checks.summary());
process.exitCode = checks.differences.length === 0 ? 0 : 1;
