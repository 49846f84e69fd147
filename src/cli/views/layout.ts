/**
 * Lays rows of text out in columns. Where the terminal is too narrow, a row takes several lines, each aligned with the same line
 * of the other rows, so that no word is cut and no cell is lost. Pure.
 */

/** How text may look: its colours, and the width of the terminal. Without a width, lines are as long as they must be. */
export interface Look {
  readonly colours: boolean;
  readonly width?: number | undefined;
}

const GAP = 2;
/** Further lines of a row begin here. */
const INDENT = 2;
/** The narrowest last column in which text is wrapped beside the others; below that it gets lines of its own. */
const LAST_MIN = 30;
/** A narrower terminal is treated as if it were this wide. */
const WIDTH_MIN = 20;

/** Rows with their columns padded to the widest cell; the last column is left as it is where the width allows. */
export function columns(rows: readonly (readonly string[])[], width?: number): string[] {
  return rowBlocks(rows, width).flat();
}

/** The lines of each row. */
export function rowBlocks(rows: readonly (readonly string[])[], width?: number): string[][] {
  const widths = widestCells(rows, (row) => row.slice(0, -1));
  const natural = rows.map((row) => lineOf(row, widths));
  if (width === undefined || natural.every((line) => visibleLength(line) <= width))
    return natural.map((line) => [line]);
  const within = Math.max(WIDTH_MIN, width);
  const isRoomy = rows.every((row) => {
    const room = within - startOf(row.length - 1, widths);
    return visibleLength(row.at(-1) ?? "") <= room || room >= LAST_MIN;
  });
  return isRoomy ? rows.map((row) => wrappedLast(row, widths, within)) : inBands(rows, within);
}

/** Breaks text at its spaces. The first line keeps its margin, further ones begin behind `indent` spaces; a word that is too long gets a line of its own. */
export function wrapped(text: string, width?: number, indent = 0): string[] {
  if (width === undefined || visibleLength(text) <= width) return [text];
  const further = " ".repeat(indent);
  const margin = /^ */.exec(text)?.[0] ?? "";
  const lines: string[] = [];
  let line = "";
  for (const word of text.slice(margin.length).split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    const room = width - (lines.length === 0 ? margin.length : indent);
    if (line === "" || visibleLength(longer) <= room) line = longer;
    else {
      lines.push(line);
      line = word;
    }
  }
  lines.push(line);
  return inWholeColours(lines).map((part, i) => (i === 0 ? margin : further) + part);
}

export function visibleLength(text: string): number {
  return text.replaceAll(/\u001b\[\d+m/g, "").length;
}

/** Ends a colour at the end of each line, and begins it again on the next. */
function inWholeColours(lines: readonly string[]): string[] {
  let open = "";
  return lines.map((line) => {
    const begun = open;
    for (const [code] of line.matchAll(/\u001b\[\d+m/g)) open = code === "\u001b[0m" ? "" : code;
    return begun + line + (open === "" ? "" : "\u001b[0m");
  });
}

function widestCells(
  rows: readonly (readonly string[])[],
  cellsOf: (row: readonly string[]) => readonly string[],
): number[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of cellsOf(row).entries()) widths[i] = Math.max(widths[i] ?? 0, visibleLength(cell));
  }
  return widths;
}

/** The place at which a column begins. */
function startOf(column: number, widths: readonly number[]): number {
  return widths.slice(0, Math.max(0, column)).reduce((sum, each) => sum + each + GAP, 0);
}

function lineOf(row: readonly string[], widths: readonly number[]): string {
  const padded = row.map((cell, i) => (i === row.length - 1 ? cell : padTo(cell, widths[i] ?? 0)));
  return padded.join(" ".repeat(GAP)).trimEnd();
}

function padTo(cell: string, width: number): string {
  return cell + " ".repeat(Math.max(0, width - visibleLength(cell)));
}

function wrappedLast(row: readonly string[], widths: readonly number[], width: number): string[] {
  const start = startOf(row.length - 1, widths);
  const [first = "", ...more] = wrapped(row.at(-1) ?? "", width - start);
  return [lineOf([...row.slice(0, -1), first], widths), ...more.map((line) => " ".repeat(start) + line)];
}

/** Puts as many columns into a line as fit; each further line holds the next columns, for all rows alike. */
function inBands(rows: readonly (readonly string[])[], width: number): string[][] {
  const widths = widestCells(rows, (row) => row).map((each) => Math.min(each, width - INDENT));
  const bands: number[][] = [[]];
  let used = 0;
  for (const [column, each] of widths.entries()) {
    if (used > 0 && used + GAP + each > width - (bands.length === 1 ? 0 : INDENT)) {
      bands.push([]);
      used = 0;
    }
    bands.at(-1)?.push(column);
    used += (used > 0 ? GAP : 0) + each;
  }
  return rows.map((row) =>
    bands.flatMap((band, at) => {
      const indent = at === 0 ? "" : " ".repeat(INDENT);
      return bandLines(band.map((column) => [row[column] ?? "", widths[column] ?? 0])).map((line) => indent + line);
    }),
  );
}

/** One line, or several where a cell is wider than its column; none without text. */
function bandLines(cells: readonly (readonly [text: string, width: number])[]): string[] {
  if (cells.every(([text]) => text === "")) return [];
  const blocks = cells.map(([text, width]) => wrapped(text, width));
  const height = Math.max(...blocks.map((block) => block.length));
  return Array.from({ length: height }, (_, at) => {
    const parts = blocks.map((block, i) => padTo(block[at] ?? "", cells[i]?.[1] ?? 0));
    return parts.join(" ".repeat(GAP)).trimEnd();
  });
}
