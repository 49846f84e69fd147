/** The completion script of bash 4.4 and later. It needs no bash-completion package. */
import { type CompletedCommand, type CompletedOption, membersOf, type Value, type Words } from "./words.ts";

export function bashScript(words: Words): string {
  const first = words.first.map(({ word }) => word).join(" ");
  const groups = words.groups.map((group) => {
    const members = membersOf(group, words).map(({ word }) => word);
    return `    ${group}) members=${quoted(members)} ;;`;
  });
  return `# bash completion of seawall; made by "seawall completion bash"
_seawall() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD - 1]}"
  local at=1 command options='' choices='' members='' value=any
  # Bash makes three words of --option=value.
  if [[ $cur == = ]]; then cur=''; elif [[ $prev == = ]]; then prev="\${COMP_WORDS[COMP_CWORD - 2]}"; fi
  COMPREPLY=()
  [[ \${COMP_WORDS[1]} == help && $COMP_CWORD -gt 1 ]] && at=2
  if ((COMP_CWORD == at)); then
    COMPREPLY=($(compgen -W '${first}' -- "$cur"))
    return
  fi
  command="\${COMP_WORDS[at]}"
  case "$command" in
${groups.join("\n")}
  esac
  if [[ -n $members ]]; then
    if ((COMP_CWORD == at + 1)); then
      COMPREPLY=($(compgen -W "$members" -- "$cur"))
      return
    fi
    command="$command \${COMP_WORDS[at + 1]}"
  fi
  ((at == 1)) || return
  case "$command" in
${words.commands.map(commandCase).join("\n")}
  esac
  if [[ -n $choices ]]; then
    COMPREPLY=($(compgen -W "$choices" -- "$cur"))
  elif [[ $value == path ]]; then
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
  elif [[ $value == none || $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
  fi
}
complete -F _seawall seawall
`;
}

function commandCase({ name, options, argument }: CompletedCommand): string {
  const valued = options.filter(({ value }) => value !== "none");
  const flags = quoted(options.map(({ flag }) => flag));
  return `    ${quoted([name])})
      options=${flags}
      case "$prev" in
${valued.map(valueCase).join("\n")}
        *) [[ $cur == -* ]] || ${assigned(argument)} ;;
      esac
      ;;`;
}

function valueCase({ flag, value }: CompletedOption): string {
  // Text that only the user knows: offer nothing.
  return `        ${flag}) ${value === "any" ? "return" : assigned(value)} ;;`;
}

function assigned(value: Value): string {
  return typeof value === "string" ? `value=${value}` : `choices=${quoted(value)}`;
}

/** The words come from our tables: letters, digits, dashes and blanks between them. */
function quoted(words: readonly string[]): string {
  return `'${words.join(" ")}'`;
}
