// The operator's API: JSON over HTTP on the unix socket <data>/admin.sock (mode 0600: whoever may read
// the data folder is the operator). One call is POST /v1/<method> with the arguments as a JSON object;
// the answer is the object below, or {"error": {"code", "name", "text"}} with a 4xx or 5xx status.
// The TCP admin port serves only GET /metrics, /healthz and /readyz.
//
// method          arguments                                  answer
// status          {}                                         {cluster:{lineage, ring, copies, synced, partitions,
//                                                              units (fewer once that was doubled), nodes,
//                                                              sites (as below), serving, change, movement:{paused, rate_limit}},
//                                                             node:{id, short, version, writer, left_out, movement,
//                                                              uptime_s, state, waits_for (why it catches up for long),
//                                                              missing, clock_offset_ms, sessions, connections,
//                                                              data, pid, rss, addresses:{client,link,admin}},
//                                                             members:[{id, short, self, state, ring_state, zone,
//                                                              weight, share, sessions, ring, catching_up, draining,
//                                                              version, client, link, admin}]: without those that are
//                                                             gone and down, whom `nodes` does not count either,
//                                                             rates:{appends, deliveries, commits, ...} (counted
//                                                              since the start)}
// ring            {partitions?: bool, vectors?: bool}        {number, lineage, copies, synced, partitions, units, change,
//                                                             placement, zones_shared (partitions whose copies share a
//                                                             zone because the others are too small),
//                                                             sites (as below),
//                                                             members:[{id, short, zone, weight, state, partitions,
//                                                              home, first, share}], table?: [[short,...], ...],
//                                                             vectors?: {partition: {writer: n}} of what is synced here}
// where           {address, message?}                        {address, kind, exists, mailbox, slot, partition,
//                                                             owners:[{id, short, state, catching_up, home,
//                                                              coordinator}]}
//                 message: an entry id, or DEVICE/SEQ         and message:{id, device, seq, from, to, void},
//                                                             of each owner {answered, whole,
//                                                             copies:[{writer, n, state}]},
//                                                             stand_ins:[{short, state, copies}],
//                                                             followers:[{gateway, owner}]
// invite          {expires_s?: 3600}                         {token, expires_ms, seeds}
// key.list        {}                                         {keys:[{id, state: primary|old|new, retire_at_ms}]}
// key.rotate      {retire_after_s?: 604800}                  {key, retire_at_ms, taken:[short], away:[short],
//                                                             going:[short] (left, and hand over still)}
// leave           {nodes?: [id], force?, dry_run?}           {ring, change, dry_run, moved, copies,
//                 an id, or enough of its beginning;           nodes:[{node, short, now, next, gains, loses}]}:
//                 none: this node                              homes:{moved, end:[zone], begin:[zone], rests}}:
//                                                              agreed on; `movement` tells how far it is
// remove          {nodes: [id] or zone, force?, dry_run?,    the same; with force {ring, lineage (not of a dry run),
//                  end_home?}                                  forced, lost, site:{taken_over (partitions whose away
//                                                              owners are the home then), newest_ms (of what reached
//                                                              them)}}
// weight          {nodes: [id], weight, dry_run?}            as leave
// rebalance       {dry_run?}                                 as leave: to the newest placement rule
// double          {to} (twice the partitions there are),     {ring, partitions, to, units, already, dry_run,
//                  dry_run?; a dry run needs no `to`           nodes:[{node, short, now, next, bytes (it moves within its
//                                                              disk, at most), room}]}; already: it was done before.
//                                                              Agreed on; `movement` tells how far it is
// sites           {}                                         {policy:{home, away, only}, in_force, home_copies,
//                                                              away_copies, zones:[{zone, nodes, home_of,
//                                                              behind:{changes, ms}}] (what was accepted elsewhere and
//                                                              has not come there; null: not known), silent:[short]}
//                 {home, away, only?, dry_run?}              as leave: to this policy of sites
//                 {off: true, dry_run?}                      as leave: to none
// abort           {}                                         {ring, change, nodes:[short]}
// movement        {of?: the number of a change's answer}     {ring, change, outcome?: open|done|taken back|unknown
//                                                              (of `of`), waits_for, moves:{moved, copies, nodes},
//                                                              nodes:[{node, short, state, gains, answered, ring,
//                                                              installed, missing, leaving, names, safe, waits_for,
//                                                              partitions, partitions_done, changes, changes_done,
//                                                              bytes, bytes_left, rate, split:{partitions, share}}],
//                                                              who gains by the open change, and who left;
//                                                              doubling:{partitions, units, nodes, settling:[{node,
//                                                              short, answered, partitions, share, waits_for}]}}
// pause, resume   {}                                         {paused, rate_limit, change: is one under way?,
//                                                              taken:[short], away:[short] (told when back)}
// throttle        {rate?: bytes a second, 0: none}           the same; without a rate it tells the present one
// drain, undrain  {}                                         {sessions}
// revoke          {node, force?}                             {node, ring}: cut off at once, its place is given up;
//                                                             with force {node, ring, lineage, lost}
// queues          {}                                         {queues:[{name, help, size, limit, transient}]}: what waits
//                                                              here; `transient` ones are empty at rest
// user.add        {users:[{name, password?, nonce?}]}        {results:[{name, created, existed?, error?}]}
//                                                             existed: it was there, with this password
//                 nonce: any number but 0; asked again with it after a timeout, the answer is as to the first
// user.list       {after?, limit?: 1000}                     {users:[{name, disabled, created_ms, groups}], more}
// user.passwd     {name, password}                           {}
// user.disable    {name, disabled: bool}                     {}
// user.logout     {name}                                     {}
// token           {user, device, expires_s?: 2592000}        {token, expires_ms}   (log in without a password)
// group.create    {group, owner?, members?: [..], nonce?}    {created}
// group.add       {group, members:[..], role?: 0}            {results:[{name, error?}]}
// group.list      {after?, limit?: 1000}                     {groups:[{name, members, created_ms}], more}
// group.members   {group, after?, limit?: 1000}              {members:[{name, role}], more}
// verify          {from?: 0, limit?: 64}                     {partitions, checked, same, rows, next?,
//                                                              findings:[{partition, outcome, nodes:[short],
//                                                              damaged:[dot], lost:[dot]}]}   (a page of the ring)
// repair          {start?: bool, give_up?: bool}             {busy, scrubbing, share, rows, bytes, mended, found, damaged,
//                                                              hopeless:[{partition, dot}], lost, given_up, expiry_ms}
#pragma once
