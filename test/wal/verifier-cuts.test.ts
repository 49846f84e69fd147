/** The verifier's input may be cut anywhere: WAL across segments in single bytes, and five pages in two at every byte. */
import { expect, it } from "vitest";
import { addBytes } from "../../src/wal/lsn.ts";
import { awkwardWal, expectFoundByteByByte, SEGMENT_CORNERS } from "./verifier-corners.ts";
import { verifierFor } from "./wal-writer.ts";

it.each(SEGMENT_CORNERS)("%s, byte by byte: nothing is verified before it is complete", (...corner) => {
  expectFoundByteByByte(corner);
});

it("five pages in two, at every byte", () => {
  const writer = awkwardWal();
  const bytes = writer.bytes;
  const wrong: string[] = [];
  for (let cut = 0; cut <= bytes.length; cut++) {
    const { verifier } = verifierFor(writer, { onRecord: undefined });
    verifier.push(bytes.subarray(0, cut));
    if (verifier.verifiedLsn > addBytes(writer.start, cut)) wrong.push(`too early when cut at ${cut}`);
    verifier.push(bytes.subarray(cut));
    const { recordCount, lastRecordEnd } = verifier.openSummary();
    if (lastRecordEnd !== writer.position || recordCount !== writer.records.length) wrong.push(`cut at ${cut}`);
  }
  expect(wrong).toEqual([]);
});
