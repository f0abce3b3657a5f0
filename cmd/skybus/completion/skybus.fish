# fish completion for skybus.
function __skybus_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] __complete fish $words[2..] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c skybus -f -a '(__skybus_complete)'
