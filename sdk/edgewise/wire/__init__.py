"""Everything on the wire: topics, control messages, windows, blocks, enrollment, and the codec that bounds them."""
