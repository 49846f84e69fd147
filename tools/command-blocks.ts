/** The block of docs/commands.md: every command with its arguments, options, exit statuses and examples. */
import { COMMANDS } from "../src/cli/commands.ts";
import type { CommandSpec } from "../src/cli/command-spec.ts";
import { COMMAND_NAMES, type CommandName, OPTION_ROWS } from "../src/config/options.ts";
import type { Blocks } from "./generated-blocks.ts";

export function commandBlocks(): Blocks {
  const sections = COMMAND_NAMES.map((name) => commandSection(name, COMMANDS[name]));
  return { commands: { source: "src/cli/commands.ts", content: sections.join("\n\n") } };
}

function commandSection(name: CommandName, spec: CommandSpec): string {
  const options = OPTION_ROWS.flatMap(([, option]) =>
    option.commands.includes(name) ? [`[\`--${option.name}\`](configuration.md#${option.name})`] : [],
  );
  const { args = [] } = spec;
  const usage = ["seawall", name, "[options]", ...args.map((arg) => `<${arg.name}>`)].join(" ");
  const examples = spec.examples.map(({ line, does }) => `# ${does}\n${line}`);
  return [
    `### ${name}`,
    `\`${usage}\`: ${spec.summary}.`,
    spec.description,
    ...(args.length === 0 ? [] : [args.map(({ name: arg, help }) => `- \`<${arg}>\`: ${help}`).join("\n")]),
    // The rule for blocks: test/deploy/page-blocks.ts.
    `<!-- run by test/deploy/help-examples.test.ts -->\n\n\`\`\`sh\n${examples.join("\n\n")}\n\`\`\``,
    `Options: ${options.join(", ")}.`,
    ["| exit | meaning |", "| ---: | --- |", ...spec.exits.map(([exit, means]) => `| ${exit} | ${means} |`)].join("\n"),
  ].join("\n\n");
}
