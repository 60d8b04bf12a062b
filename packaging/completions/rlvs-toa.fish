# SPDX-License-Identifier: GPL-2.0
# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rlvs_toa_global_optspecs
    string join \n h/help V/version
end

function __fish_rlvs_toa_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rlvs_toa_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rlvs_toa_using_subcommand
    set -l cmd (__fish_rlvs_toa_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rlvs-toa -n "__fish_rlvs_toa_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlvs-toa -n "__fish_rlvs_toa_needs_command" -s V -l version -d 'Print version'
complete -c rlvs-toa -n "__fish_rlvs_toa_needs_command" -f -a "attach" -d 'Attach the programs, or change what is attached'
complete -c rlvs-toa -n "__fish_rlvs_toa_needs_command" -f -a "detach" -d 'Take the programs away, and all they know'
complete -c rlvs-toa -n "__fish_rlvs_toa_needs_command" -f -a "status" -d 'Show what is attached, and what it has counted'
complete -c rlvs-toa -n "__fish_rlvs_toa_needs_command" -f -a "watch" -d 'Show live connections, and who really is behind each'
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand attach" -l from -d 'Whom to believe: the balancers\' local addresses' -r
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand attach" -l cgroup -d 'The cgroup whose processes see clients (default: the root cgroup, so all)' -r
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand attach" -l kind -d 'Kinds of the TCP option (default: 254, 253, 200, 252)' -r
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand attach" -l port -d 'Local TCP ports (default: all)' -r
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand attach" -l exid -d 'The identifier in options of RFC 6994\'s form (default: 0x544f)' -r
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand attach" -l device -d 'Network devices on which DPVS\'s IP protocol 248 comes in, its other form for UDP' -r
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand attach" -l udp -d 'UDP too: clients that come in IP option 31, as DPVS sends them'
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand attach" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand detach" -s h -l help -d 'Print help'
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand status" -l json -d 'Print JSON'
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand watch" -s n -l interval -d 'Show them again after each so many seconds' -r
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand watch" -l json -d 'Print JSON'
complete -c rlvs-toa -n "__fish_rlvs_toa_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
