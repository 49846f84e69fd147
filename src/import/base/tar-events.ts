/** Turns the bytes of a tar into events, one after the other as they are asked for. */
import { type TarEvent, TarScanner } from "../../codec/tar-reader.ts";

/** Data is borrowed until the next event. Throws `backup-corrupt`, and what `pieces` throws. */
export async function* tarEvents(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<TarEvent> {
  const scanner = new TarScanner();
  for await (const piece of pieces) {
    scanner.feed(piece);
    for (let event = scanner.next(); event !== undefined; event = scanner.next()) yield event;
  }
  scanner.end();
}
