/**
 * Encrypts a part of a base backup in the codec threads. Each piece that OpenSSL encrypts is new memory, which costs little in a thread
 * with a small heap. On the main thread, which reads the server's stream, its collection took 1.1 s for a backup of 780 MiB; here 0.1 s.
 */
import { type Sealing, streamFront } from "./age/seal.ts";
import { PIECE_BYTES, payloadKey, sealedBytes } from "./age/payload.ts";
import { copyToSlot } from "./frame-slots.ts";
import type { CodecPool, LentMemory } from "./pool.ts";

/** Content that one job encrypts. */
const BLOCK_PIECES = 16;
const BLOCK_BYTES = BLOCK_PIECES * PIECE_BYTES;
const BLOCK_SEALED_BYTES = sealedBytes(BLOCK_BYTES);
/** Blocks that are being encrypted while the next one is filled. */
const BLOCKS_UNDER_WAY_MAX = 2;

interface Sealed {
  readonly lent: LentMemory;
  readonly bytes: number;
}

/** Header and nonce first, then pieces; a view is valid until the next is asked for. */
export async function* sealFrames(
  content: AsyncIterable<Uint8Array>,
  sealing: Sealing,
  pool: CodecPool,
): AsyncGenerator<Uint8Array> {
  yield streamFront(sealing);
  const key = payloadKey(sealing.keys.fileKey, sealing.keys.nonce);
  const underWay: Promise<Sealed>[] = [];
  let block: LentMemory | undefined;
  let filled = 0;
  let index = 0;
  const seal = (isEnd: boolean): void => {
    const lent = block ?? pool.lend(BLOCK_SEALED_BYTES);
    const sealed = pool.seal(lent.memory, filled, { key, firstIndex: index, isEnd }).then((bytes) => ({ lent, bytes }));
    // Reported when its turn comes.
    sealed.catch(() => undefined);
    underWay.push(sealed);
    block = undefined;
    index += BLOCK_PIECES;
    filled = 0;
  };
  async function* oldest(): AsyncGenerator<Uint8Array> {
    const next = underWay[0];
    if (next === undefined) return;
    const { lent, bytes } = await next;
    yield new Uint8Array(lent.memory, 0, bytes);
    void underWay.shift();
    lent.giveBack();
  }
  try {
    for await (const bytes of content) {
      for (let at = 0; at < bytes.byteLength;) {
        // The last piece is another one than all before it, so a full block waits until more has come.
        if (filled === BLOCK_BYTES) {
          seal(false);
          if (underWay.length > BLOCKS_UNDER_WAY_MAX) yield* oldest();
        }
        block ??= pool.lend(BLOCK_SEALED_BYTES);
        const taken = Math.min(BLOCK_BYTES - filled, bytes.byteLength - at);
        copyToSlot(Buffer.from(block.memory), filled, bytes.subarray(at, at + taken));
        filled += taken;
        at += taken;
      }
    }
    seal(true);
    while (underWay.length > 0) yield* oldest();
  } finally {
    block?.giveBack();
    // A reader that leaves early: the threads may still be writing.
    for (const left of await Promise.allSettled(underWay)) if (left.status === "fulfilled") left.value.lent.giveBack();
  }
}
