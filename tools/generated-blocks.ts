/**
 * Blocks that are made from tables in code, inside Markdown pages that are otherwise written by hand. A block stands between
 * two comments: the first names the block and its source, the second ends it. Pure.
 */

export interface Block {
  /** The file in which the block's facts are changed, from the root of the project. */
  readonly source: string;
  /** Markdown, without an empty line at either end. */
  readonly content: string;
}

/** Blocks by name. */
export type Blocks = Readonly<Record<string, Block>>;

const BEGIN = /^<!-- Made by "npm run docs" from \S+: ([a-z-]+) -->$/;

/**
 * Returns the page with the content of each block written anew. Throws an Error for a block that the page lacks, has twice or
 * does not end, and for one that is not in `blocks`.
 */
export function withBlocks(page: string, blocks: Blocks): string {
  const lines: string[] = [];
  const seen = new Set<string>();
  let open: string | undefined;
  for (const line of page.split("\n")) {
    const name = BEGIN.exec(line)?.[1];
    if (open === undefined && name === undefined) lines.push(line);
    if (name !== undefined) {
      const block = blocks[name];
      if (open !== undefined) throw new Error(`block ${open} has no end before block ${name}`);
      if (block === undefined) throw new Error(`no block is called ${name}`);
      if (seen.has(name)) throw new Error(`block ${name} stands twice`);
      seen.add(name);
      lines.push(...blockLines(name, block));
      open = name;
    }
    if (open !== undefined && line === endOf(open)) open = undefined;
  }
  if (open !== undefined) throw new Error(`block ${open} has no end`);
  const missing = Object.keys(blocks).find((name) => !seen.has(name));
  if (missing !== undefined) throw new Error(`block ${missing} is missing`);
  return lines.join("\n");
}

function blockLines(name: string, { source, content }: Block): string[] {
  return [
    `<!-- Made by "npm run docs" from ${source}: ${name} -->`,
    "<!-- prettier-ignore-start -->",
    "",
    content,
    "",
    "<!-- prettier-ignore-end -->",
    endOf(name),
  ];
}

const endOf = (name: string): string => `<!-- end of ${name} -->`;
