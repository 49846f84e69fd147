/** Who may complete an upload: one writer at a time, and after a writer that died the next one. */
import { describe, expect, test } from "vitest";
import { type ClaimedKey, claim } from "../../src/store/s3/claim.ts";

/** The claims of one key, its object, and the uploads that can still be completed. */
class Place {
  readonly claims = new Map<string, string>();
  readonly uploads = new Set<string>();
  object: string | undefined;

  writer(uploadId: string, signal = new AbortController().signal): ClaimedKey {
    this.uploads.add(uploadId);
    return {
      ...{ key: "k", uploadId, signal },
      putClaim: async (name, id) => {
        await Promise.resolve();
        if (this.claims.has(name)) return "exists";
        this.claims.set(name, id);
        return "created";
      },
      readClaim: async (name) => this.claims.get(name),
      objectExists: async () => this.object !== undefined,
      endUpload: async (id) => void this.uploads.delete(id),
    };
  }

  /** What CompleteMultipartUpload does on a server that ignores the condition. */
  complete(uploadId: string): void {
    if (!this.uploads.delete(uploadId)) throw new Error("no such upload");
    if (this.object !== undefined) throw new Error(`${uploadId} overwrites ${this.object}`);
    this.object = uploadId;
  }
}

describe("a claim", () => {
  test("is given to one of many writers, and the others find its object", async () => {
    const place = new Place();
    const ids = Array.from({ length: 8 }, (_, i) => `u${i}`);
    const kinds = await Promise.all(
      ids.map(async (id) => {
        const { kind } = await claim(place.writer(id), 5_000);
        if (kind === "claimed") place.complete(id);
        return kind;
      }),
    );
    expect(kinds.filter((kind) => kind === "claimed")).toHaveLength(1);
  });

  test("is given again to the writer that has it: its answer was lost", async () => {
    const place = new Place();
    const writer = place.writer("u1");
    for (let time = 0; time < 3; time++) expect(await claim(writer, 0)).toMatchObject({ kind: "claimed" });
    expect(place.claims.size).toBe(1);
  });

  test("of a writer that died passes on, and the dead one's upload can no longer be completed", async () => {
    const place = new Place();
    expect((await claim(place.writer("dead"), 0)).kind).toBe("claimed");
    const next = await claim(place.writer("next"), 0);
    expect(next).toEqual({ kind: "claimed", names: ["~claims/k/1", "~claims/k/2"] });
    expect(() => place.complete("dead")).toThrow("no such upload");
    place.complete("next");
  });

  test("of a writer that finished and died before it removed the claim shows the object", async () => {
    const place = new Place();
    await claim(place.writer("first"), 0);
    place.complete("first");
    expect((await claim(place.writer("second"), 0)).kind).toBe("exists");
  });

  test("of a writer that finishes while its upload is being ended shows the object", async () => {
    const place = new Place();
    await claim(place.writer("first"), 0);
    const second = place.writer("second");
    const slow: ClaimedKey = {
      ...second,
      endUpload: async () => {
        place.complete("first");
      },
    };
    expect((await claim(slow, 0)).kind).toBe("exists");
  });

  test("that is waited for can be cancelled", async () => {
    const place = new Place();
    await claim(place.writer("first"), 0);
    const controller = new AbortController();
    const waiting = claim(place.writer("second", controller.signal), 60_000);
    setTimeout(() => controller.abort(), 20);
    await expect(waiting).rejects.toMatchObject({ code: "aborted" });
  });
});
