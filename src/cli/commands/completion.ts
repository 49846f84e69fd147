/** `seawall completion <shell>`: prints the shell's completion script. */
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { completionScript } from "../completion/script.ts";
import type { CommandTables } from "../completion/words.ts";
import type { Command } from "../context.ts";
import { SHELLS } from "../shells.ts";

/** The command for the tables of commands that hold it: importing them here would be a circle. */
export function completionOf(tables: CommandTables): Command {
  return async ({ args, io }) => {
    const [wanted = ""] = args;
    const shell = SHELLS.find((known) => known === wanted);
    if (shell === undefined) {
      const hint = `Use one of ${SHELLS.join(", ")}.`;
      throw new SeawallError("usage", `there is no completion for "${wanted}"`, { hint });
    }
    await io.out(completionScript(shell, tables));
    return EXIT.done;
  };
}
