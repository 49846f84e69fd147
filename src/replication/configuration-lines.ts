/**
 * Reads the settings in the text of a server's configuration file. Pure.
 *
 * Source: PostgreSQL guc-file.l (GUC_parse).
 */

/** The `name = value` lines of a configuration file in their order, names in lower case. */
export function configurationLines(text: string): { readonly name: string; readonly value: string }[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*([A-Za-z_][A-Za-z0-9_.]*)\s*(?:=\s*|\s)(?:'((?:[^'\\]|''|\\.)*)'|([^\s#']+))/.exec(line);
    if (match?.[1] === undefined) return [];
    return [{ name: match[1].toLowerCase(), value: match[2]?.replaceAll("''", "'") ?? match[3] ?? "" }];
  });
}
