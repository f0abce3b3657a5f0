#compdef skybus
# zsh completion for skybus.
_skybus() {
    local line help
    local -a found
    for line in "${(@f)$("${words[1]}" __complete zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        help=${line#*$'\t'}
        [[ -n $line ]] && found+=("${${line%%$'\t'*}//:/\\:}${help:+:$help}")
    done
    if (( ${#found} )); then
        _describe skybus found
    else
        _files
    fi
}
if [[ ${funcstack[1]} == _skybus ]]; then
    _skybus
else
    (( ${+functions[compdef]} )) || { autoload -Uz compinit && compinit }
    compdef _skybus skybus
fi
