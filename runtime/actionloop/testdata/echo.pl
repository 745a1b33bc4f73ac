#!/usr/bin/env perl
use strict;
use warnings;
use IO::Handle;

open( my $reply, '>&=', 3 ) or die "descriptor 3: $!";
$reply->autoflush(1);
while ( my $line = <STDIN> ) {
    chomp $line;
    print {$reply} "[$line]\n";
}
