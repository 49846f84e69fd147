/** The line and the exit status of a monitoring check that could not be carried out. Loads nothing else. Pure. */

/** Exit status "unknown" of monitoring plug-ins. */
export const CHECK_UNKNOWN = 3;

/** Plug-ins should keep to one line that a pager shows. */
const LINE_CHARACTERS_MAX = 1000;

export function unknownLine(message: string): string {
  return pluginLine("unknown", message);
}

/** `SEAWALL WORD: text`. */
export function pluginLine(word: string, text: string): string {
  return `SEAWALL ${word.toUpperCase()}: ${plainLine(text)}`;
}

/** One line of a plug-in. A bar would begin the performance data, and a line break would end the line. */
export function plainLine(text: string): string {
  const line = text.replaceAll(/\s+/g, " ").replaceAll("|", "/").trim();
  return line.slice(0, LINE_CHARACTERS_MAX);
}
