/** The completion script of fish 3 and later. */
import {
  type CompletedCommand,
  type CompletedOption,
  type FirstWord,
  membersOf,
  type Value,
  type Words,
} from "./words.ts";

export function fishScript(words: Words): string {
  const groups = words.groups.flatMap((group) =>
    membersOf(group, words).flatMap((member) =>
      [group, `help ${group}`].map((before) => candidate(`__seawall_after ${before}`, member)),
    ),
  );
  const help = words.first.map((word) => candidate("__seawall_after help", word));
  return `# fish completion of seawall; made by "seawall completion fish"
# True when the words before the cursor are exactly these.
function __seawall_after
    set -l before (commandline -opc)
    set -e before[1]
    test "$before" = "$argv"
end
# True when the command line begins with these words.
function __seawall_command
    set -l before (commandline -opc)
    set -e before[1]
    set -l last (count $argv)
    test "$before[1..$last]" = "$argv"
end
complete -c seawall -f
${[...words.first.map((word) => candidate("__seawall_after", word)), ...help, ...groups].join("\n")}
${words.commands.flatMap(commandLines).join("\n")}
`;
}

function candidate(condition: string, { word, summary }: FirstWord): string {
  return `complete -c seawall -n '${condition}' -a ${word} -d ${quoted(summary)}`;
}

function commandLines({ name, options, argument }: CompletedCommand): readonly string[] {
  const start = `complete -c seawall -n '__seawall_command ${name}'`;
  const rest = argument === "none" || argument === "any" ? [] : [`${start} ${valueWords(argument)}`];
  return [...options.map((option) => `${start} ${flagWords(option)}`), ...rest];
}

function flagWords({ flag, help, value }: CompletedOption): string {
  const name = flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`;
  const taken = value === "none" ? "" : value === "any" ? " -x" : ` -r ${valueWords(value)}`;
  return `${name}${taken} -d ${quoted(help)}`;
}

/** Words, or paths. */
function valueWords(value: Value): string {
  return typeof value === "string" ? "-F" : `-f -a '${value.join(" ")}'`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
