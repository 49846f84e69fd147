/** The store contract on S3 servers that understand the protocol differently from Ceph: versitygw and moto. */
import { randomBytes } from "node:crypto";
import { afterAll, afterEach, beforeEach, describe } from "vitest";
import { openStore } from "../../src/store/open.ts";
import { withRetry } from "../../src/store/retry.ts";
import type { Store } from "../../src/store/store.ts";
import { startS3 } from "../harness/s3.ts";
import { type StoreUnderTest, describeStoreContract } from "./contract.ts";
import { describeBodies } from "./contract-bodies.ts";

/**
 * `folders`: the server keeps objects as files in folders. versitygw answers 409 ExistingObjectIsDirectory when a
 * folder is removed, with its last object, while a PUT makes it; every command repeats such a PUT, so the suite does too.
 */
const SERVERS = [
  { kind: "versitygw", folders: true, query: "", others: ["&checksum=md5", "&checksum=sha256"] },
  // moto 5 gives the CRC-32C of the parts' CRC-32Cs and calls it that of the whole object, which reads refuse.
  { kind: "moto", folders: false, query: "&checksum=md5", others: ["&checksum=sha256"] },
] as const;

for (const { kind, folders, query: usual, others } of SERVERS) {
  const s3 = await startS3(kind);
  describe.skipIf(!s3.available)(kind, () => {
    const bucket = s3.available ? s3.bucket() : undefined;
    afterAll(async () => {
      await (await bucket)?.[Symbol.asyncDispose]();
      s3.client.destroy();
    });
    const openAt = async (query: string): Promise<StoreUnderTest> => {
      const url = ((await bucket)?.urlFor(`some/${randomBytes(6).toString("hex")}`) ?? "") + query;
      const open = (): Store => {
        const store = openStore(url, { env: s3.env });
        return folders ? withRetry(store) : store;
      };
      const [store, other] = [open(), open()];
      const dispose = async (): Promise<void> => {
        await store.close();
        await other.close();
      };
      return { store, other, dispose };
    };

    describeStoreContract(kind, () => openAt(usual), { manyObjects: 1005 });

    for (const query of others) {
      describe(query.slice(1), () => {
        let opened: StoreUnderTest;
        beforeEach(async () => {
          opened = await openAt(query);
        });
        afterEach(() => opened.dispose());
        describeBodies(() => opened.store);
      });
    }
  });
}
