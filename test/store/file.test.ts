/** The file store under the shared contract. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileStore } from "../../src/store/file.ts";
import { describeStoreContract } from "./contract.ts";

describeStoreContract(
  "file",
  async () => {
    const root = await mkdtemp(join(tmpdir(), "seawall-store-"));
    const store = new FileStore(root);
    const other = new FileStore(root);
    return {
      store,
      other,
      dispose: async () => {
        await store.close();
        await other.close();
        await rm(root, { recursive: true });
      },
    };
  },
  { manyObjects: 300 },
);
