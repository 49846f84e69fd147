/** Turns the bytes of a tar into events, one after the other as they are asked for. */
import { hasCode, messageOf } from "../../errors.ts";
import { type TarEvent, TarScanner } from "../../codec/tar-reader.ts";
import { refused } from "./found.ts";

/**
 * Data is borrowed until the next event. `name` is for people: the tar and where it lies. Throws `import-source` where it is cut or
 * damaged, and what `pieces` throws.
 */
export async function* tarEvents(pieces: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<TarEvent> {
  try {
    yield* scanned(pieces);
  } catch (error) {
    if (!hasCode(error, "backup-corrupt")) throw error;
    throw refused(`cannot read ${name}: ${messageOf(error)}`, "The file is damaged or cut off: copy it again.", error);
  }
}

async function* scanned(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<TarEvent> {
  const scanner = new TarScanner();
  for await (const piece of pieces) {
    scanner.feed(piece);
    for (let event = scanner.next(); event !== undefined; event = scanner.next()) yield event;
  }
  scanner.end();
}
