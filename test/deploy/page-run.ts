/** Runs a block of a page on a site, between its preparation and what is undone afterwards. */
import type { PageBlock } from "./page-blocks.ts";
import type { Preparation } from "./page-preparations.ts";
import type { PageSite } from "./page-site.ts";

/** Throws with the output when a line of the block fails. */
export async function runBlock(
  block: PageBlock,
  {
    site,
    prepare,
  }: { readonly site: PageSite; readonly prepare: (block: PageBlock, site: PageSite) => Promise<Preparation> },
): Promise<void> {
  try {
    const { names = [], env = {}, first = "", after } = await prepare(block, site);
    const lines = site.here(linesOf(block, site.segment), names);
    // On a line of its own: an optional call that is left out does not evaluate its arguments.
    const stdout = await site.shell(`${first}\n${lines}`, env);
    await after?.(stdout);
  } finally {
    await site.restore();
  }
}

/** The lines that a shell runs for a block: SQL by psql, and a server's settings with a file for `%f` and `%p`. */
function linesOf({ language, text }: PageBlock, segment: string): string {
  if (language === "sql") return `psql -v ON_ERROR_STOP=1 <<'SQL'\n${text}SQL\n`;
  if (language !== "ini") return text;
  const settings = [...text.matchAll(/^(archive|restore)_command = '([^']*)'/gm)];
  if (settings.length === 0) throw new Error("the block has no command");
  const commands = settings.map(([, kind, command = ""]) => {
    const path = kind === "restore" ? "pg_wal/RECOVERYXLOG" : `pg_wal/${segment}`;
    return `(${command.replaceAll("%f", segment).replaceAll("%p", path)})`;
  });
  return commands.join("\n");
}
