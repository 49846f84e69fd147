/** `npm run test:encrypted`: backups, receivers, restores and campaigns once more, over encrypted archives. */
import { defineConfig } from "vitest/config";
import { encryptedTests } from "./test/encrypted-tests.ts";
import everything from "./vitest.config.ts";

export default defineConfig({ test: { ...everything.test, include: encryptedTests() } });
