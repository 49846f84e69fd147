/** Whether a stream may be written in colours: a terminal, unless NO_COLOR or FORCE_COLOR say otherwise. */

/**
 * `FORCE_COLOR` (https://force-color.org) has precedence, as in Node.js itself: `0` and `false` mean no colours, any other
 * text colours. Without it, `NO_COLOR` (https://no-color.org) with any text means none.
 */
export function wantsColours(
  isTerminal: boolean | undefined,
  env: Readonly<Record<string, string | undefined>> = process.env,
): boolean {
  const { FORCE_COLOR: forced = "", NO_COLOR: refused = "" } = env;
  if (forced !== "") return forced !== "0" && forced !== "false";
  return refused === "" && isTerminal === true;
}
