/** The memory store under the shared contract. */
import { MemoryStore } from "../harness/memory-store.ts";
import { describeStoreContract } from "./contract.ts";

describeStoreContract(
  "memory",
  async () => {
    const store = new MemoryStore();
    return { store, other: store, dispose: async () => {} };
  },
  { manyObjects: 2500 },
);
