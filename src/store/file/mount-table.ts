/**
 * Compares the file systems that this machine should have mounted with those that it has. Pure: fstab(5) and
 * proc_pid_mountinfo(5) arrive as text.
 */

export interface MountTables {
  /** The text of /etc/fstab. */
  readonly fstab: string;
  /** The text of /proc/self/mountinfo. */
  readonly mountinfo: string;
}

/** The mount points of fstab that hold `path` although nothing is mounted on them, the deepest last. */
export function unmountedAbove(path: string, tables: MountTables): string[] {
  const mounted = new Set(fields(tables.mountinfo, 4));
  return fields(tables.fstab, 1)
    .map((point) => (point === "/" ? point : point.replace(/\/+$/, "")))
    .filter((point) => point.startsWith("/") && point !== "/" && !mounted.has(point))
    .filter((point) => path === point || path.startsWith(`${point}/`))
    .sort((a, b) => a.length - b.length);
}

/** One column of a table whose fields are separated by blanks; `#` begins a comment line. */
function fields(table: string, column: number): string[] {
  const found: string[] = [];
  for (const line of table.split("\n")) {
    if (line.trimStart().startsWith("#")) continue;
    const field = line.trim().split(/[ \t]+/)[column];
    if (field !== undefined) found.push(unescape(field));
  }
  return found;
}

/** Both tables write a space, a tab, a line end and a backslash as an octal escape such as `\040`. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
