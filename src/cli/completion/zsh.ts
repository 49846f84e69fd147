/** The completion script of zsh, for a folder of $fpath or to be sourced. */
import {
  type CompletedCommand,
  type CompletedOption,
  type FirstWord,
  membersOf,
  type Value,
  type Words,
} from "./words.ts";

export function zshScript(words: Words): string {
  const groups = words.groups.map(
    (group) => `    ${group})
      if ((CURRENT == 3)); then
        candidates=(${described(membersOf(group, words))})
        _describe command candidates
        return
      fi
      command="$command $words[3]"
      shift words
      ((CURRENT--))
      ;;`,
  );
  return `#compdef seawall
# zsh completion of seawall; made by "seawall completion zsh"
_seawall() {
  local -a candidates
  local command
  if [[ $words[2] == help ]] && ((CURRENT > 2)); then
    shift words
    ((CURRENT--))
    ((CURRENT > 3)) && return
  fi
  if ((CURRENT == 2)); then
    candidates=(${described(words.first)})
    _describe command candidates
    return
  fi
  command=$words[2]
  case "$command" in
${groups.join("\n")}
  esac
  shift words
  ((CURRENT--))
  case "$command" in
${words.commands.map(commandCase).join("\n")}
  esac
}
if [[ $funcstack[1] == _seawall ]]; then _seawall "$@"; else compdef _seawall seawall; fi
`;
}

function described(rows: readonly FirstWord[]): string {
  return rows.map(({ word, summary }) => `'${escaped(word)}:${escaped(summary)}'`).join(" ");
}

function commandCase({ name, options, argument }: CompletedCommand): string {
  const specs = options.map(optionSpec);
  const rest = argument === "none" ? [] : [`'1:${valueSpec(argument)}'`];
  return `    '${name}') _arguments ${[...specs, ...rest].join(" ")} ;;`;
}

function optionSpec({ flag, help, value }: CompletedOption): string {
  const text = `[${escaped(help)}]`;
  return value === "none" ? `'${flag}${text}'` : `'${flag}=${text}:${valueSpec(value)}'`;
}

function valueSpec(value: Value): string {
  if (typeof value !== "string") return `value:(${value.join(" ")})`;
  return value === "path" ? "path:_files" : "value: ";
}

/** For a word of _arguments and _describe within single quotes. */
function escaped(text: string): string {
  return text.replaceAll(/[\\[\]:]/g, (sign) => `\\${sign}`).replaceAll("'", `'\\''`);
}
