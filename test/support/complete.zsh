# SPDX-License-Identifier: Apache-2.0
# What zsh would complete: complete.zsh SCRATCH COMPLETIONS LINE... compsys works in a line editor only, so there is one, in a
# pseudo-terminal; a compadd of ours writes down what it is given and passes it on. One match a line, between
# < and >; a blank line behind those of each LINE.
scratch=$1
zmodload zsh/zpty || exit 3
zpty -b worker zsh -f -i
send() { zpty -w worker "$1" }
send 'PROMPT=; RPROMPT=; stty -echo; cd '$scratch
send 'fpath=('$2' $fpath); autoload -Uz compinit; compinit -u -D'
send 'compadd() { local -a found; builtin compadd -A found "$@"; (( $#found )) && print -rl -- "<"${^found}">" >> zsh-found; builtin compadd "$@" }'
send 'finish-it() { print done > zsh-done }; zle -C list-all list-choices _main_complete; zle -N finish-it; bindkey "^X" list-all; bindkey "^Y" finish-it'
send 'print ready > zsh-ready'
until [[ -e $scratch/zsh-ready ]]; do sleep 0.02; done
for line in "${@[3,-1]}"; do
  rm -f $scratch/zsh-done $scratch/zsh-found
  # ^U: the last one goes
  zpty -w -n worker $'\x15'"$line"$'\x18\x19'
  until [[ -e $scratch/zsh-done ]]; do sleep 0.02; done
  [[ ! -e $scratch/zsh-found ]] || cat $scratch/zsh-found
  print
done
zpty -d worker
