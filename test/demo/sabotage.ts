/** For the test of the demo itself: damage to the archive that the proof must find. Never used by people. */
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Does what `how` names to the archive in `folder`: flip-segment, delete-segment, flip-chunk or delete-chunk. */
export function sabotage(folder: string, how: string): void {
  const [verb, kind] = how.split("-");
  const below = join(folder, "main", kind === "chunk" ? "tail" : "wal");
  const objects = readdirSync(below, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".zst"))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  // Of the segments one in the middle, of the chunks the last: the one that holds the last commit.
  const victim = kind === "chunk" ? objects.at(-1) : objects[objects.length >> 1];
  if (victim === undefined) throw new Error(`nothing to ${how}`);
  if (verb === "delete") rmSync(victim);
  else if (verb === "flip") {
    const bytes = readFileSync(victim);
    // Near the end: in the compressed content, not in the envelope.
    const at = bytes.byteLength - 20;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    rmSync(victim);
    writeFileSync(victim, bytes);
  } else throw new Error(`unknown sabotage ${how}`);
}
