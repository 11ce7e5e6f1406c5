//! Apple Wallet: signed `.pkpass` archives and empty pushes by APNs.
