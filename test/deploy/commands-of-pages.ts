/** Finds the `seawall` commands that a page shows: in its fenced blocks, and in the code within its text. Pure. */

/** A command's place, and its words behind `seawall`. */
export interface PageCommand {
  readonly line: number;
  readonly args: readonly string[];
}

/** Where a command may begin: a line's start or a prompt, behind an operator of the shell, or as a server's setting. */
const BEGIN =
  /(?:^\s*(?:\$ )?|[|;&(]\s*|=\s*')(?:[A-Z_]+=\S+\s+)*(?:(?:exec|npx|sudo|until)\s+)*(?:\/\S+\/)?seawall(-wal-fetch)?(?=\s|$)/g;

/** A page shortens what its reader has: these values stand for it. */
const SHORTENED: Readonly<Record<string, string>> = { "--dsn": "host=db", "--store": "file:///archive" };

/** The commands in the fenced blocks of a page; a line that ends in a backslash goes on. */
export function fencedCommands(page: string): PageCommand[] {
  const found: PageCommand[] = [];
  let fenced = false;
  let begun = "";
  for (const [index, text] of page.split("\n").entries()) {
    if (/^\s*```/.test(text)) fenced = !fenced;
    else if (fenced && text.endsWith("\\")) begun += text.slice(0, -1);
    else if (fenced) {
      found.push(...commandsOf(begun + text).map((args) => ({ line: index + 1, args })));
      begun = "";
    }
  }
  return found;
}

/** The commands in single backticks outside of fenced blocks. `seawall COMMAND` names no command. */
export function inlineCommands(page: string): PageCommand[] {
  const found: PageCommand[] = [];
  let fenced = false;
  for (const [index, text] of page.split("\n").entries()) {
    if (/^\s*```/.test(text)) fenced = !fenced;
    if (fenced) continue;
    for (const [, code = ""] of text.matchAll(/`(seawall [^`A-Z][^`]*)`/g)) {
      found.push(...commandsOf(code).map((args) => ({ line: index + 1, args })));
    }
  }
  return found;
}

/** The commands of one line of a shell, or of a server's setting. */
export function commandsOf(line: string): string[][] {
  return [...line.matchAll(BEGIN)].map((match) => {
    const rest = line.slice(match.index + match[0].length);
    const setting = /=\s*'/.test(match[0]);
    const words = wordsOf(setting ? rest.slice(0, rest.indexOf("'")) : rest);
    return [...(match[1] === undefined ? [] : ["wal-fetch"]), ...inFull(words)];
  });
}

/** Splits as a shell does, up to the end of the command. */
function wordsOf(text: string): string[] {
  const command = /^(?:\s+(?!#)|[^\s'"|<>&;)]+|'[^']*'|"[^"]*")*/.exec(text)?.[0] ?? "";
  const words = command.match(/(?:[^\s'"]+|'[^']*'|"[^"]*")+/g) ?? [];
  return words.map((word) => word.replaceAll(/'([^']*)'|"([^"]*)"/g, "$1$2"));
}

/** Replaces the dots behind an option; dots by themselves stand for further options, and go. */
function inFull(words: readonly string[]): string[] {
  return words.flatMap((word, i) => (word === "…" ? (SHORTENED[words[i - 1] ?? ""] ?? []) : [word]));
}
