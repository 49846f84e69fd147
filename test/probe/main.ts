/** `npm run version:probe -- --bin DIR [--version N]`: exits with 0 when nothing differs, with 1 otherwise. */
import { parseArgs } from "node:util";
import { Checks } from "./checks.ts";
import { probe } from "./probe.ts";

const { values } = parseArgs({ options: { bin: { type: "string" }, version: { type: "string" } } });
const major = values.version === undefined ? undefined : Number(values.version);
if (values.bin === undefined || (major !== undefined && !Number.isInteger(major))) {
  console.error("usage: npm run version:probe -- --bin DIR [--version N]");
  process.exit(2);
}
const checks = new Checks((line) => console.log(line));
await probe({ binDir: values.bin, major }, checks);
console.log(checks.summary());
process.exitCode = checks.differences.length === 0 ? 0 : 1;
