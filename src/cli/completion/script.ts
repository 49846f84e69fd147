/** The completion scripts of bash, zsh and fish. They hold every word themselves and never start Seawall. */
import type { Shell } from "../shells.ts";
import { bashScript } from "./bash.ts";
import { fishScript } from "./fish.ts";
import { type CommandTables, wordsOf } from "./words.ts";
import { zshScript } from "./zsh.ts";

export function completionScript(shell: Shell, tables: CommandTables): string {
  const words = wordsOf(tables);
  switch (shell) {
    case "bash":
      return bashScript(words);
    case "zsh":
      return zshScript(words);
    case "fish":
      return fishScript(words);
  }
}
