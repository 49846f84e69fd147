/** The file store under the shared contract. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileStore } from "../../src/store/file/store.ts";
import { describeStoreContract } from "./contract.ts";

for (const { name, options } of [
  { name: "file", options: {} },
  { name: "file, listed by threads", options: { filesBeforeThreads: 0 } },
]) {
  describeStoreContract(
    name,
    async () => {
      const root = await mkdtemp(join(tmpdir(), "seawall-store-"));
      const store = new FileStore(root, options);
      const other = new FileStore(root, options);
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
}
