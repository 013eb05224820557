"""What a shipped model lost: against its parent and its teacher, with intervals, in whole and by slice."""
